package browser

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// publishing has a page publish its camera and microphone by WHIP, as RFC 9725
// has it, and keeps what it needs to end it. %s: the URL, the token, a codec
// or nothing, and the encodings.
const publishing = `(async () => {
	const [url, token, codec, encodings] = [%q, %q, %q, %s];
	const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 1280, height: 720 }, audio: true });
	const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
	for (const track of stream.getTracks()) {
		const t = pc.addTransceiver(track, { direction: 'sendonly', streams: [stream], ...(track.kind === 'video' ? { sendEncodings: encodings } : {}) });
		if (track.kind === 'video' && codec) {
			t.setCodecPreferences(RTCRtpSender.getCapabilities('video').codecs.filter((c) => [codec, 'video/rtx'].includes(c.mimeType)));
		}
	}
	await pc.setLocalDescription();
	const answer = await fetch(url, { method: 'POST', body: pc.localDescription.sdp, headers: { 'Content-Type': 'application/sdp', Authorization: 'Bearer ' + token } });
	if (answer.status !== 201) return answer.status + ': ' + await answer.text();
	await pc.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
	window.publication = { pc, stream, session: answer.headers.get('Location') };
	return '';
})()`

// publish has a page publish to a camera of a box, and gives what went wrong.
func (b *box) publish(p *Page, camera, codec, encodings string) (trouble string, err error) {
	token, err := b.token("publish", camera)
	if err != nil {
		return "", err
	}
	err = p.Eval(&trouble, fmt.Sprintf(publishing, "/whip/"+camera, token, codec, encodings))
	return trouble, err
}

// token is one of the box's for a camera.
func (b *box) token(right, camera string) (string, error) {
	path, err := program()
	if err != nil {
		return "", err
	}
	out, err := exec.Command(path, "token", "--may", right, "--cameras", camera, "--data", filepath.Join(b.dir, "data")).Output()
	return strings.TrimSpace(string(out)), err
}

// state is what the box says of a camera.
func (b *box) state(t testing.TB, camera string) (c struct {
	State  string
	Codec  string
	Layers []struct {
		Width int
		FPS   float64
	}
	Audio     *struct{ Codec string }
	LastError struct{ Code string } `json:"last_error"`
},
) {
	t.Helper()
	_, token, _ := strings.Cut(b.url, "token=")
	q, err := http.NewRequest("GET", "http://"+b.address+"/api/v1/cameras/"+camera, nil)
	must(t, err)
	q.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(q)
	must(t, err)
	defer http.DefaultClient.CloseIdleConnections()
	defer res.Body.Close()
	must(t, json.NewDecoder(res.Body).Decode(&c))
	return c
}

// TestPublish: a browser publishes its camera, in one encoding and in three,
// and another one views it, also after another has begun to publish.
func TestPublish(t *testing.T) {
	b := startBox(t, "  - {id: stage, source: \"whip:\", audio: {enabled: true}}\n")
	if c := b.state(t, "stage"); c.State != "waiting" || c.LastError.Code != "no_publisher" {
		t.Errorf("before anybody publishes: %+v", c)
	}
	publisher := Open(t, Options{Camera: true})
	must(t, publisher.Goto(b.url))
	if trouble, err := b.publish(publisher, "stage", "video/VP8", "[{}]"); err != nil || trouble != "" {
		t.Fatal(trouble, err)
	}
	viewer := Open(t, Options{})
	must(t, viewer.Goto(b.url))
	look(t, viewer, "stage", "?.frames > 60")
	img, _, err := viewer.Screenshot("[data-camera=stage] video")
	must(t, err)
	if n := colours(img); n < 4 { // the made-up camera has few
		t.Errorf("the picture has %d colours", n)
	}
	if c := b.state(t, "stage"); c.State != "live" || c.Codec != "VP8" || c.Audio == nil || c.Audio.Codec != "opus" {
		t.Errorf("%+v", c)
	}
	if trouble, err := b.publish(publisher, "stage", "", "[{}]"); err != nil || !strings.HasPrefix(trouble, "409") {
		t.Errorf("a second publisher is told %q, %v", trouble, err)
	}

	must(t, publisher.Eval(nil, "fetch(publication.session, { method: 'DELETE' }).then(() => publication.pc.close())"))
	before := look(t, viewer, "stage", "?.frames > 0")
	layers := `[{ rid: 'l', scaleResolutionDownBy: 4 }, { rid: 'm', scaleResolutionDownBy: 2 }, { rid: 'h' }]`
	if trouble, err := b.publish(publisher, "stage", "video/VP8", layers); err != nil || trouble != "" {
		t.Fatal(trouble, err)
	}
	look(t, viewer, "stage", fmt.Sprintf("?.frames > %d", before.Frames+60))
	widths := func() (w []int) {
		for _, l := range b.state(t, "stage").Layers {
			w = append(w, l.Width)
		}
		return w
	}
	for limit := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if w := widths(); len(w) == 3 && w[0] > w[1] && w[1] > w[2] {
			t.Logf("the layers are %v pixels wide", w)
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("the layers are %v pixels wide", widths())
		}
	}
	clean(t, viewer)
}

// TestPublishByGStreamer: webrtcbin publishes, with keyframes so seldom that
// the viewer's picture begins with one that was asked for.
func TestPublishByGStreamer(t *testing.T) {
	b := startBox(t, "  - {id: h264, source: \"whip:\", audio: {enabled: true}}\n  - {id: vp8, source: \"whip:\"}\n")
	viewer := Open(t, Options{})
	for _, codec := range []string{"h264", "vp8"} {
		token, err := b.token("publish", codec)
		must(t, err)
		cmd := exec.Command("/usr/bin/python3", "publish.py", "http://"+b.address+"/whip/"+codec, token, codec)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		cmd.WaitDelay = 10 * time.Second
		stdin, err := cmd.StdinPipe()
		must(t, err)
		must(t, cmd.Start())
		t.Cleanup(func() {
			_ = stdin.Close()
			if err := cmd.Wait(); err != nil || t.Failed() {
				t.Errorf("%s: %v: %s", codec, err, said.String())
			}
		})
		must(t, viewer.Goto(b.url+"#/"+codec))
		c := look(t, viewer, codec, "?.frames > 60")
		if !strings.EqualFold(c.Stats.Codec, codec) {
			t.Errorf("the viewer decodes %s", c.Stats.Codec)
		}
		img, _, err := viewer.Screenshot(fmt.Sprintf("[data-camera=%s] video", codec))
		must(t, err)
		if n := colours(img); n < 8 {
			t.Errorf("%s: the picture has %d colours", codec, n)
		}
	}
	if c := b.state(t, "h264"); c.Audio == nil || c.Audio.Codec != "opus" {
		t.Errorf("%+v", c)
	}
	clean(t, viewer)
}
