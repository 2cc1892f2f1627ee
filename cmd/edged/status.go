package main

import (
	"encoding/hex"
	"fmt"
	"os"

	"edged/capture"
	"edged/internal/config"
	"edged/internal/metrics"
	"edged/internal/web"
	"edged/uplink"
)

// info is GET /api/v1/box.
func (g *gateway) info() web.Box {
	cfg, doc := g.live.current()
	b := web.Box{
		Name: boxName(cfg), ID: g.identity.Box(), Version: version, Started: g.started,
		Config: web.Revision{Epoch: int(doc.Epoch), Rev: int(doc.Rev), Hash: hash(doc.Hash), Source: doc.Source},
	}
	if g.ready() {
		b.Addresses = g.sfu.Addresses()
		b.Ports.UDP, b.Ports.TCP = g.sfu.Ports()
		if g.relay != nil {
			b.Ports.TURN = g.relay.Port()
		}
	}
	return b
}

// boxName is what people call the box: the configuration's name, or else the
// host's.
func boxName(cfg config.Config) string {
	if cfg.Name != "" {
		return cfg.Name
	}
	name, _ := os.Hostname()
	return name
}

func hash(sum [32]byte) string {
	if sum == ([32]byte{}) {
		return ""
	}
	return hex.EncodeToString(sum[:])
}

// health is one line a subsystem. An offline camera or console is told, but
// is no reason to restart the box.
func (g *gateway) health() []web.Health {
	var out []web.Health
	say := func(name string, ok bool, format string, a ...any) {
		out = append(out, web.Health{Name: name, OK: ok, Detail: fmt.Sprintf(format, a...)})
	}
	if err := g.store.Health(); err != nil {
		say("storage", false, "%v", err)
	} else {
		say("storage", true, "%d bytes", g.store.Bytes())
	}
	live := 0
	states := g.cameras.States()
	for _, s := range states {
		if s.Phase == capture.Live {
			live++
		}
	}
	say("cameras", true, "%d of %d live", live, len(states))
	viewers := 0
	for _, s := range g.sfu.Stats().Streams {
		viewers += len(s.Viewers)
	}
	say("forward", true, "%d viewers", viewers)
	if g.relay != nil {
		say("turn", true, "%d allocations", g.relay.Stats().Allocations)
	}
	switch s := g.uplink.Stats(); {
	case !s.Enabled:
	case s.Connected:
		say("uplink", true, "connected to %s", s.Server)
	default:
		say("uplink", true, "not connected: %s", s.LastError)
	}
	return out
}

// snapshot is what /metrics reads.
func (g *gateway) snapshot() metrics.Snapshot {
	_, doc := g.live.current()
	s := metrics.Snapshot{
		Version: version, SFU: g.sfu.Stats(), Cameras: g.cameras.States(), Uplink: g.uplink.Stats(), Signaling: g.sessions.Stats(),
		ConfigRevision: doc.Rev, ConfigApplies: g.live.applied(), StorageCommits: g.store.Commits(), StorageBytes: g.store.Bytes(),
	}
	if g.relay != nil {
		s.TURN = g.relay.Stats()
	}
	return s
}

// uplinkBox is what the console is told of.
func (g *gateway) uplinkBox() uplink.Box {
	return uplink.Box{
		ID: g.identity.Box(), Version: version, Boot: g.boot, NextConn: g.store.NextConn, Sample: g.sample,
		Config: func() uplink.Running {
			_, d := g.live.current()
			return uplink.Running{Epoch: d.Epoch, Rev: d.Rev, Hash: hash(d.Hash), Source: d.Source}
		},
	}
}

// sample is what the box knows now, for the statistics windows.
func (g *gateway) sample() uplink.Sample {
	stats := g.sfu.Stats()
	var s uplink.Sample
	viewers := map[string]int{}
	for _, st := range stats.Streams {
		viewers[st.ID] = len(st.Viewers)
		for _, v := range st.Viewers {
			s.Forward.Viewers++
			s.Forward.Loss = append(s.Forward.Loss, v.Loss)
			if v.RTT > 0 {
				s.Forward.RTT = append(s.Forward.RTT, v.RTT)
			}
		}
	}
	for _, c := range g.cameras.States() {
		s.Cameras = append(s.Cameras, uplink.CameraSample{
			ID: c.ID, State: string(c.Phase), Code: string(c.Code), Frames: sum(c.Frames), Bytes: sum(c.Bytes),
			Restarts: total(c.Restarts), Keyframes: c.Keyframes, Viewers: viewers[c.ID],
		})
	}
	f := &s.Forward
	f.Packets, f.Bytes, f.NACKs, f.RTX, f.PLIs = stats.Packets, stats.Bytes, stats.NACKs, stats.RTX, stats.PLIs
	f.Dropped = total(stats.Dropped)
	f.Join, f.Delay = uplink.Histogram(stats.JoinSeconds), uplink.Histogram(stats.FrameDelay)
	if g.relay != nil {
		t := g.relay.Stats()
		s.TURN = uplink.TURNSample{Allocations: t.Allocations, RelayedIn: t.RelayedIn, RelayedOut: t.RelayedOut, AuthFailures: t.AuthFailures, DeniedPeers: t.DeniedPeers}
	}
	return s
}

func sum(counts []uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

func total[K comparable](counts map[K]uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}
