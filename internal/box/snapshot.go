package box

import (
	"context"
	"time"

	"edged/capture"
	"edged/internal/snapshot"
)

// snapshotGrace is how long the last picture of a camera that went away still
// serves as a snapshot.
const snapshotGrace = 15 * time.Second

// Snapshot is how a camera's scene looks now, at most width pixels wide (0:
// the camera's own size); see [snapshot.Cache.Get]. The error carries a
// [capture.Code]: not_found where there is no such camera, codec where its
// keyframes cannot be decoded here, else why there is no picture.
func (b *Box) Snapshot(ctx context.Context, id string, width int) (snapshot.Snapshot, error) {
	c := b.find(id)
	if c == nil {
		return snapshot.Snapshot{}, capture.Errorf(capture.CodeNotFound, "no camera %.40q", id)
	}
	st := c.State()
	if st.Phase != capture.Live && time.Since(st.LastFrame) > snapshotGrace {
		if st.Code == "" {
			return snapshot.Snapshot{}, capture.Errorf(capture.CodeStalled, "the camera has no picture yet")
		}
		return snapshot.Snapshot{}, capture.Errorf(capture.CodeStalled, "camera offline: %s: %s", st.Code, st.Reason)
	}
	return c.shots.Get(ctx, width)
}
