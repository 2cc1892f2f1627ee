package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const secretDoc = `
name: gate
cameras:
  - {id: a, source: "rtsp://h/a", username: u, password: pw-a}
  - {id: b, source: "rtsp://v:pw-b@h/b"}
  - {id: c, source: "pattern:", password: ""}
  - {id: e, source: "rtsp://h/e", sub: "rtsp://h/s?user=x&password=pw-e"}
webrtc: {turn: [{urls: ["turn:one"], credential: pw-1}, {urls: ["turn:two"], credential: pw-2}]}
uplink: {password: pw-up}
`

func TestRedacted(t *testing.T) {
	got, err := Redacted([]byte(secretDoc))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"name":"gate","cameras":[` +
		`{"id":"a","source":"rtsp://h/a","username":"u","password":"***"},` +
		`{"id":"b","source":"rtsp://h/b","username":"v","password":"***"},` +
		`{"id":"c","source":"pattern:","password":""},` +
		`{"id":"e","source":"rtsp://h/e","sub":"rtsp://h/s?user=x&password=***"}],` +
		`"webrtc":{"turn":[{"urls":["turn:one"],"credential":"***"},{"urls":["turn:two"],"credential":"***"}]},` +
		`"uplink":{"password":"***"}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, err := Redacted([]byte("pasword: pw\n")); err == nil || strings.Contains(err.Error(), "pw") {
		t.Errorf("unknown key: %v", err)
	}
	if got, err := Redacted(nil); err != nil || string(got) != "{}" {
		t.Errorf("%s, %v", got, err)
	}
}

func TestMerge(t *testing.T) {
	// Renamed, reordered, one password set anew, one camera without any.
	next := `{"cameras":[
		{"id":"b","source":"rtsp://h/new","username":"v","password":"***"},
		{"id":"a","source":"rtsp://h/a","password":"fresh"},
		{"id":"d","source":"pattern:"}],
		"webrtc":{"turn":[{"urls":["turn:two"],"credential":"***"}]},
		"uplink":{"password":"***"}}`
	merged, err := Merge([]byte(secretDoc), []byte(next))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(merged)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, cam := range c.Cameras {
		got = append(got, cam.ID+"="+string(cam.Password))
	}
	got = append(got, c.WebRTC.ICEServers[0].Credential, string(c.Uplink.Password))
	if s := fmt.Sprint(got); s != "[b=pw-b a=fresh d= pw-2 pw-up]" {
		t.Errorf("%s", s)
	}
}

func TestMergeOfRedactedIsTheSame(t *testing.T) {
	hidden, err := Redacted([]byte(secretDoc))
	if err != nil {
		t.Fatal(err)
	}
	merged, err := Merge([]byte(secretDoc), hidden)
	if err != nil {
		t.Fatal(err)
	}
	a, err1 := Parse([]byte(secretDoc))
	b, err2 := Parse(merged)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if d := Diff(a, b); !d.None() {
		t.Errorf("%+v", d)
	}
}

func TestSecretsInURLs(t *testing.T) {
	doc := `{"cameras":[{"id":"a","source":"rtsp://h/x?user=u&password=s3cret#transport=tcp"}]}`
	hidden, err := Redacted([]byte(doc))
	if err != nil || string(hidden) != `{"cameras":[{"id":"a","source":"rtsp://h/x?user=u&password=***#transport=tcp"}]}` {
		t.Fatalf("%s, %v", hidden, err)
	}
	if _, err := Parse(hidden); err == nil {
		t.Error("stars taken for a password")
	}
	if merged, err := Merge([]byte(doc), hidden); err != nil || string(merged) != doc {
		t.Errorf("%s, %v", merged, err)
	}
	_, err = Merge([]byte(doc), []byte(`{"cameras":[{"id":"a","source":"rtsp://elsewhere/x?user=u&password=***"}]}`))
	wantFaults(t, err, `cameras[0].source: "***" stands for a secret that is not there`)
}

func TestMergeFaults(t *testing.T) {
	_, err := Merge([]byte(secretDoc), []byte(`{"cameras":[{"id":"new","source":"pattern:","password":"***"},{"id":"c","source":"pattern:","password":"***"}],
		"webrtc":{"turn":[{"urls":["turn:other"],"credential":"***"}]}}`))
	wantFaults(t, err, `cameras[0].password: "***" stands for a secret that is not there
cameras[1].password: "***" stands for a secret that is not there
webrtc.turn[0].credential: "***" stands for a secret that is not there`)
	_, err = Merge(nil, []byte(`{"uplink":{"password":"***"}}`))
	wantFaults(t, err, `uplink.password: "***" stands for a secret that is not there`)
	_, err = Merge([]byte(secretDoc), []byte(`{"name":`))
	wantFaults(t, err, `line 1:`)
	// A name or an unknown key may read ***: it is no secret's place.
	merged, err := Merge([]byte(secretDoc), []byte(`{"name":"***","x":["***",{"y":"***"}]}`))
	if err != nil || string(merged) != `{"name":"***","x":["***",{"y":"***"}]}` {
		t.Errorf("%s, %v", merged, err)
	}
}

func FuzzMerge(f *testing.F) {
	f.Add([]byte(secretDoc), []byte(`{"cameras":[{"id":"a","password":"***"}]}`))
	f.Add([]byte("cameras: 5"), []byte("cameras: [[***]]\nwebrtc: {turn: {urls: 1}}"))
	f.Fuzz(func(t *testing.T, now, next []byte) {
		merged, err := Merge(now, next)
		if err != nil {
			return
		}
		if tree, fs := read(merged); tree == nil && len(merged) <= MaxDocument {
			t.Fatalf("%s: %v", merged, fs)
		}
	})
}

// Who may write the configuration but not read its secrets must not have them
// sent to an address of his own.
func TestMergeSendsNoSecretElsewhere(t *testing.T) {
	now := `{"cameras":[{"id":"a","source":"rtsp://10.0.0.5/main","sub":"rtsp://10.0.0.5/sub","password":"one"}],
		"uplink":{"servers":["mqtts://b1:8883","mqtts://b2:8883"],"password":"two"}}`
	for next, want := range map[string]string{
		`{"cameras":[{"id":"a","source":"rtsp://10.0.0.5/other","password":"***"}],"uplink":{"servers":["mqtts://b2:8883"],"password":"***"}}`: "",
		`{"cameras":[{"id":"a","source":"rtsp://10.0.0.6/main","password":"***"}]}`:                                                            "/cameras/0/password",
		`{"cameras":[{"id":"a","source":"rtsp://10.0.0.5:8554/main","password":"***"}]}`:                                                       "/cameras/0/password",
		`{"cameras":[{"id":"a","source":"rtsp://10.0.0.5/main","sub":"rtsp://evil/sub","password":"***"}]}`:                                    "/cameras/0/password",
		`{"uplink":{"servers":["mqtts://b1:8883","mqtts://evil:8883"],"password":"***"}}`:                                                      "/uplink/password",
		`{"uplink":{"servers":["mqtt://b1:8883"],"password":"***"}}`:                                                                           "/uplink/password",
	} {
		_, err := Merge([]byte(now), []byte(next))
		var fs Faults
		if want == "" && err != nil || want != "" && (!errors.As(err, &fs) || len(fs) != 1 || fs[0].Pointer != want || !strings.Contains(fs[0].Detail, "another address")) {
			t.Errorf("%s: %v, want a fault at %q", next, err, want)
		}
	}
}
