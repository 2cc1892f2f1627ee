package guest

import (
	"strings"
	"testing"
)

// TestMicrophone: the microphone's own tests, on the guest's sound card.
func TestMicrophone(t *testing.T) {
	folder := t.TempDir()
	build(t, folder, "mic.test", "./capture/mic", "test", "-c")
	out := boot(t, image(t), folder, "EDGED_TEST_GUEST=1 ./mic.test -test.v -test.run '^TestGuest' -test.timeout 200s\n")
	t.Log(out)
	if !strings.Contains(out, "\nPASS\n") || strings.Contains(out, "--- SKIP") {
		t.Error("not all tests ran and passed")
	}
}

// TestBoxWithMicrophone: the whole box, in the guest, has a camera with the
// sound of the sound card, of which its state tells.
func TestBoxWithMicrophone(t *testing.T) {
	folder := t.TempDir()
	build(t, folder, "edged", "./cmd/edged", "build")
	out := boot(t, image(t), folder, `if [ -x /bin/load ]; then load vivid; fi
cat >/tmp/edged.yaml <<END
cameras:
  - id: dock
    source: "v4l2:auto"
    video: {width: 320, height: 180, fps: 10, bitrate: 300000}
    audio: {enabled: true, device: "hw:Loopback,1"}
http: {listen: "127.0.0.1:8080"}
END
./edged --config /tmp/edged.yaml --data /tmp/data >/tmp/out 2>/tmp/log &
box=$!
n=0
while [ $n -lt 600 ]; do
	n=$((n + 1))
	token=$(sed -n 's/.*token=//p' /tmp/out)
	if [ -n "$token" ] && wget -qO /tmp/cameras --header "Authorization: Bearer $token" http://127.0.0.1:8080/api/v1/cameras &&
		tr -d ' \n' </tmp/cameras | grep -q '"audio":{[^}]*"frames":[1-9]'; then
		echo heard
		break
	fi
	sleep 0.1
done
cat /tmp/cameras
kill $box
wait $box
echo "stopped with $?"
cat /tmp/log
`)
	t.Log(out)
	for _, want := range []string{"heard\n", "stopped with 0"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q", want)
		}
	}
}
