package signaling

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"edged/internal/auth"
)

// view is one viewer, or publisher, as signalled.
type view struct {
	Peer
	viewer Viewer // the same; nil: a publisher
	camera string
	owner  string      // who may speak of it over /api/v1/signal; empty: who knows its URL
	expiry *time.Timer // ends the view with its token; nil where that has no end

	mu    sync.Mutex // guards the ICE session, one step at a time (RFC 9725 §4.3.3)
	ufrag string     // the remote's, of this ICE session
	etag  string     // names this ICE session
}

func newView(peer Peer, camera, offer string, g auth.Grant) *view {
	v := &view{Peer: peer, camera: camera, ufrag: iceOf(offer).ufrag, etag: newETag()}
	if !g.Expires.IsZero() {
		v.expiry = time.AfterFunc(time.Until(g.Expires), func() { peer.Close("token expired") })
	}
	return v
}

func newETag() string { return `"` + rand.Text() + `"` }

// extend moves the end of the view to that of a newer token.
func (v *view) extend(g auth.Grant) {
	switch {
	case v.expiry == nil:
	case g.Expires.IsZero():
		v.expiry.Stop()
	default:
		v.expiry.Reset(time.Until(g.Expires))
	}
}

// release lets go of what the view holds beside its viewer.
func (v *view) release() {
	if v.expiry != nil {
		v.expiry.Stop()
	}
}

func (v *view) ended() bool {
	select {
	case <-v.Done():
		return true
	default:
		return false
	}
}

// restart does an ICE restart; v.mu is not held.
func (v *view) restart(ctx context.Context, offer string) (answer string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.restartLocked(ctx, offer)
}

func (v *view) restartLocked(ctx context.Context, offer string) (answer string, err error) {
	answer, err = v.Restart(ctx, offer)
	if err != nil {
		return "", err
	}
	v.ufrag, v.etag = iceOf(offer).ufrag, newETag()
	return answer, nil
}

// registry has the views that no connection holds. Ended ones are swept when
// another is added, so that it never has more than one lifetime's worth of
// the dead beside the living, whose number the SFU bounds.
type registry struct {
	mu sync.Mutex
	m  map[string]*view
}

func (r *registry) add(v *view) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m == nil {
		r.m = map[string]*view{}
	}
	r.sweepLocked()
	r.m[v.ID()] = v
}

// get finds a view that lives.
func (r *registry) get(id string) (*view, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.m[id]
	if ok && v.ended() {
		r.dropLocked(id, v)
		return nil, false
	}
	return v, ok
}

func (r *registry) drop(v *view) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropLocked(v.ID(), v)
}

// count tells how many views live, with an owner and without.
func (r *registry) count() (owned, free int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweepLocked()
	for _, v := range r.m {
		if v.owner != "" {
			owned++
		}
	}
	return owned, len(r.m) - owned
}

func (r *registry) sweepLocked() {
	for id, v := range r.m {
		if v.ended() {
			r.dropLocked(id, v)
		}
	}
}

func (r *registry) dropLocked(id string, v *view) {
	v.release()
	delete(r.m, id)
}
