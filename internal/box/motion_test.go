package box

import (
	"encoding/json"
	"image"
	"log/slog"
	"testing"
	"time"

	"edged/capture"
	"edged/capture/capturetest"
	"edged/capture/decode"
	"edged/capture/encode"
	"edged/capture/motion"
	"edged/capture/pattern"
)

// What moves is told at each look, and that it is over, once.
func TestWatch(t *testing.T) {
	var changes int
	var told []string
	w := &watch{
		blocks: 2, changed: func() { changes++ }, log: slog.New(slog.DiscardHandler), detector: motion.New(motion.DefaultThreshold),
		annotate: func(_ time.Time, note json.RawMessage) error { told = append(told, string(note)); return nil },
	}
	empty, somebody := image.NewGray(image.Rect(0, 0, 160, 90)), image.NewGray(image.Rect(0, 0, 160, 90))
	for i := range empty.Pix {
		empty.Pix[i] = byte(i % 160)
		somebody.Pix[i] = empty.Pix[i]
		if x, y := i%160, i/160; x < 20 && y >= 80 {
			somebody.Pix[i] = 200
		}
	}
	began := time.Unix(100, 0)
	for _, tt := range []struct {
		at      time.Duration
		luma    *image.Gray
		active  bool
		changes int
		told    int
	}{
		{0, empty, false, 1, 0}, // that there are pictures is news
		{250, empty, false, 1, 0},
		{500, somebody, true, 2, 1},
		{750, empty, true, 2, 2}, // the place that was left differs for three looks
		{1000, empty, true, 2, 3},
		{1250, empty, true, 2, 4},
		{1500, empty, true, 2, 4},
		{3000, empty, true, 2, 4},
		{3250, empty, false, 3, 5},
		{3500, empty, false, 3, 5},
	} {
		w.look(capture.Look{Captured: began.Add(tt.at * time.Millisecond), Luma: tt.luma})
		if w.state.Active != tt.active || w.state.By != "pictures" || changes != tt.changes || len(told) != tt.told {
			t.Errorf("at %d ms: %+v, %d changes, told %d", tt.at, w.state, changes, len(told))
		}
	}
	if want := `{"columns":16,"rows":[0,0,0,0,0,0,0,0,49152]}`; told[0] != want {
		t.Errorf("told %s, want %s", told[0], want)
	}
	w.look(capture.Look{Err: capture.Errorf(capture.CodeProtocol, "damaged")})
	if w.state.By != "pictures" {
		t.Error("one damaged keyframe is no end")
	}
	w.look(capture.Look{Err: capture.Errorf(capture.CodeCodec, "no decoder for H265")})
	if w.state.By != "nothing" || w.state.Reason != "no decoder for H265" {
		t.Errorf("%+v", w.state)
	}
}

// Both ways through a real camera: one whose pictures are encoded here, one
// that encodes.
func TestMotion(t *testing.T) {
	if encode.Name == "" || !decode.Can(capture.H264) {
		t.Skip("this build has no encoder, or no decoder")
	}
	b, _ := start(t)
	b.new = func(cfg capture.Config, log *slog.Logger) (capture.Source, error) {
		if cfg.ID == "encodes" {
			return capturetest.New(capturetest.Options{})
		}
		return pattern.New(cfg, log)
	}
	enabled := capture.MotionConfig{Enabled: true, Threshold: motion.DefaultThreshold, Blocks: 1}
	if _, err := b.Apply([]capture.Config{
		{ID: "a", Source: "pattern:", Motion: enabled}, {ID: "encodes", Source: "test:", Motion: enabled}, {ID: "off", Source: "pattern:"},
	}); err != nil {
		t.Fatal(err)
	}
	for id, by := range map[string]string{"a": "pictures", "encodes": "keyframes"} {
		var m capture.Motion
		for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit) && (m.By != by || id == "a" && !m.Active); time.Sleep(5 * time.Millisecond) {
			st, _, _ := b.Camera(id)
			m = st.Motion
		}
		if m.By != by || id == "a" && (!m.Active || m.Since.IsZero()) {
			t.Errorf("%s: %+v", id, m)
		}
	}
	if st, _, _ := b.Camera("off"); st.Motion != (capture.Motion{}) {
		t.Errorf("not asked for: %+v", st.Motion)
	}
}
