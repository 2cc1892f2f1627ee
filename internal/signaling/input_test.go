package signaling

import (
	"encoding/json"
	"strings"
	"testing"

	"edged/capture"
)

// A device's figures move with every picture and are no news; a setting that
// it turns out not to have is.
func TestDescribeInput(t *testing.T) {
	st := capture.State{ID: "dock", Input: capture.Input{Mode: "YUYV 640 × 480 at 30/s", Lost: 3, Damaged: 1, Unmet: []string{"focus: this camera has no such control"}}}
	c := Describe(st, nil)
	b, err := json.Marshal(c)
	if want := `"input":{"mode":"YUYV 640 × 480 at 30/s","lost":3,"damaged":1,"unmet":["focus: this camera has no such control"]}`; err != nil || !strings.Contains(string(b), want) {
		t.Errorf("%s, %v", b, err)
	}
	st.Input.Lost = 4
	if !sameState(c, Describe(st, nil)) {
		t.Error("a lost picture is news")
	}
	st.Input.Unmet = nil
	if sameState(c, Describe(st, nil)) {
		t.Error("a setting that is met now is no news")
	}
	if b, _ := json.Marshal(Describe(capture.State{ID: "dock"}, nil)); strings.Contains(string(b), "input") {
		t.Errorf("no device, and yet %s", b)
	}
}
