package box

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"edged/capture"
	"edged/capture/decode"
	"edged/capture/motion"
)

// motionEnds is how long nothing has moved when motion is said to be over.
const motionEnds = 2 * time.Second

// watch looks for motion in one camera's scene.
type watch struct {
	blocks   int
	changed  func()                                 // the state did
	annotate func(time.Time, json.RawMessage) error // tells viewers
	log      *slog.Logger
	detector *motion.Detector // of the tap's goroutine, as is
	moved    time.Time        // when something moved last

	mu    sync.Mutex
	state capture.Motion
}

// watchMotion has a camera's scene looked at, if its configuration says so.
func (b *Box) watchMotion(c *camera, cfg capture.Config) {
	if !cfg.Motion.Enabled {
		return
	}
	c.motion = &watch{
		blocks: cfg.Motion.Blocks, changed: b.changed, log: b.log.With("camera", cfg.ID), detector: motion.New(cfg.Motion.Threshold),
		annotate: func(at time.Time, note json.RawMessage) error { return c.stream.Annotate(at, "motion", note) },
	}
	c.SetTap(&capture.Tap{Look: c.motion.look, Decode: decode.Keyframe})
}

// State is the camera's, with what is known of motion while there are
// pictures.
func (c *camera) State() capture.State {
	st := c.Camera.State()
	if c.motion != nil && st.Phase == capture.Live {
		c.motion.mu.Lock()
		defer c.motion.mu.Unlock()
		st.Motion = c.motion.state
	}
	return st
}

// look is one look at the scene.
func (w *watch) look(l capture.Look) {
	if l.Err != nil {
		w.unable(l.Err)
		return
	}
	grid := w.detector.Look(l.Luma)
	moves := grid.Count() >= w.blocks
	if moves {
		w.moved = l.Captured
	}
	active := moves || w.active() && l.Captured.Sub(w.moved) < motionEnds
	by := "pictures"
	if l.Keyframe {
		by = "keyframes"
	}
	ended := w.active() && !active
	w.set(capture.Motion{By: by, Active: active})
	if moves || ended {
		w.tell(l.Captured, grid)
	}
}

// tell sends the grid to the viewers who listen.
func (w *watch) tell(at time.Time, grid motion.Grid) {
	note, err := json.Marshal(map[string]any{"columns": motion.Columns, "rows": grid})
	if err == nil {
		err = w.annotate(at, note)
	}
	if err != nil {
		w.log.Warn("motion", "err", err)
	}
}

// unable says why nothing can be looked at. A keyframe that is damaged is no
// reason: the next one may not be.
func (w *watch) unable(err error) {
	if capture.CodeOf(err) == capture.CodeCodec {
		w.set(capture.Motion{By: "nothing", Reason: fmt.Sprint(err)})
	}
}

func (w *watch) active() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.Active
}

func (w *watch) set(m capture.Motion) {
	w.mu.Lock()
	m.Since = w.state.Since
	if m.Active != w.state.Active {
		m.Since = time.Now()
	}
	changed := m != w.state
	w.state = m
	w.mu.Unlock()
	if changed {
		w.changed()
	}
}
