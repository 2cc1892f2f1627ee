package lossy

import (
	"context"
	"errors"

	"edged/internal/lab/bench"
)

// The subjects: edged with two layers of 2.5 Mbit/s and 500 kbit/s, edged with
// the better one alone, the same to a viewer that takes no FlexFEC, and plain
// pion with that, NACK and PLI.
const (
	twoLayers = "edged-2-layers"
	oneLayer  = "edged-1-layer"
	plainPion = "pion-nack"
	bareLayer = "edged-1-layer-no-fec"
)

// The widths of the layers.
const (
	HighWidth = 1280
	LowWidth  = 640
)

const cameras = `name: lossy
cameras:
  - {id: two, source: "pattern:", video: {bitrate: 2500000, layers: 2}}
  - {id: one, source: "pattern:", video: {bitrate: 2500000}}
http: {listen: "127.0.0.1:0"}
webrtc: {udp: "127.0.0.1:0", tcp: "", max_cpu: 0}
turn: {enabled: false}
auth: {open: true}
`

// StartSubjects runs edged, and plain pion unless its program is empty, until
// stop is called. Configuration and data go to dir.
func StartSubjects(ctx context.Context, edged, baseline, dir string) (all []Subject, stop func() error, err error) {
	box, root, err := bench.StartConfigured(ctx, -1, edged, dir, cameras)
	if err != nil {
		return nil, nil, err
	}
	stop = box.Stop
	all = []Subject{
		{Name: twoLayers, Endpoint: root + "/whep/two"}, {Name: oneLayer, Endpoint: root + "/whep/one"},
		{Name: bareLayer, Endpoint: root + "/whep/one", Bare: true},
	}
	if baseline != "" {
		p, err := bench.Start(-1, baseline, "-pattern", "-nack")
		if err != nil {
			return nil, nil, errors.Join(err, box.Stop())
		}
		stop = func() error { return errors.Join(box.Stop(), p.Stop()) }
		_, endpoint, err := bench.Located(ctx, p)
		if err != nil {
			return nil, nil, errors.Join(err, box.Stop())
		}
		all = append(all, Subject{Name: plainPion, Endpoint: endpoint})
	}
	for _, s := range all {
		if err := bench.AwaitPicture(ctx, s.Endpoint, ""); err != nil {
			return nil, nil, errors.Join(err, stop())
		}
	}
	return all, stop, nil
}
