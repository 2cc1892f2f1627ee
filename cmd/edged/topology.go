package main

import (
	"time"

	"edged/forward"
	"edged/internal/signaling"
)

// topology is GET /api/v1/topology: who sees which camera by which way.
type topology struct {
	Box     string           `json:"box"`
	Cameras []topologyCamera `json:"cameras"`
	TURN    *topologyTURN    `json:"turn,omitempty"`
	Uplink  topologyUplink   `json:"uplink"`
}

type topologyCamera struct {
	signaling.Camera
	RingBytes int              `json:"ring_bytes"`
	Workers   []topologyWorker `json:"workers"`
	Watchers  []topologyViewer `json:"watchers"`
}

type topologyWorker struct {
	Viewers int     `json:"viewers"`
	Packets float64 `json:"packets"` // a second
	Busy    float64 `json:"busy"`    // share of its time
}

type topologyViewer struct {
	ID       string    `json:"id"` // a short form, no secret
	Subject  string    `json:"subject"`
	Since    time.Time `json:"since"`
	State    string    `json:"state"`
	Path     string    `json:"path"`
	Remote   string    `json:"remote"`
	Codec    string    `json:"codec"`
	SRTP     string    `json:"srtp"`
	Quality  string    `json:"quality"`
	Layer    int       `json:"layer"`    // that is sent, 0 is the best; -1: none yet
	Estimate float64   `json:"estimate"` // bits/s that the path takes; 0: not measured
	Packets  uint64    `json:"packets"`
	Bytes    uint64    `json:"bytes"`
	Bitrate  float64   `json:"bitrate"` // bits/s
	Loss     float64   `json:"loss"`    // fraction
	Lost     uint64    `json:"lost"`
	Jitter   float64   `json:"jitter"`        // seconds
	RTT      float64   `json:"rtt"`           // seconds
	Score    float64   `json:"quality_score"` // of the path, 0 to 100
	Group    string    `json:"group"`         // good, fair, poor
	Worker   int       `json:"worker"`        // index into the camera's workers
	NACKs    uint64    `json:"nacks"`
	RTX      uint64    `json:"rtx"`
	FEC      uint64    `json:"fec"` // repair packets, among those sent
	PLIs     uint64    `json:"plis"`
	Skipped  uint64    `json:"skipped"`  // frames
	Thinned  uint64    `json:"thinned"`  // frames left out because the path takes less
	Queue    int64     `json:"queue_ms"` // milliseconds that the oldest frame has waited for the path (ICE-TCP)
	JoinTime float64   `json:"join"`     // seconds, offer → first keyframe sent
}

type topologyTURN struct {
	Allocations int    `json:"allocations"`
	In          uint64 `json:"relayed_in"`  // bytes
	Out         uint64 `json:"relayed_out"` // bytes
	Denied      uint64 `json:"denied_peers"`
}

type topologyUplink struct {
	Enabled   bool   `json:"enabled"`
	Connected bool   `json:"connected"`
	Server    string `json:"server,omitempty"`
}

func (g *gateway) topology() any {
	u := g.uplink.Stats()
	out := topology{Box: g.identity.Box(), Cameras: []topologyCamera{}, Uplink: topologyUplink{u.Enabled, u.Connected, u.Server}}
	for _, id := range g.cameras.IDs() {
		state, stream, ok := g.cameras.Camera(id)
		if !ok {
			continue
		}
		stats := stream.Stats()
		c := topologyCamera{Camera: signaling.Describe(state, stream), RingBytes: stats.Ring, Workers: []topologyWorker{}, Watchers: []topologyViewer{}}
		for _, w := range stats.Workers {
			c.Workers = append(c.Workers, topologyWorker(w))
		}
		for _, v := range stats.Viewers {
			c.Watchers = append(c.Watchers, watcher(v))
		}
		out.Cameras = append(out.Cameras, c)
	}
	if g.relay != nil {
		t := g.relay.Stats()
		out.TURN = &topologyTURN{t.Allocations, t.RelayedIn, t.RelayedOut, t.DeniedPeers}
	}
	return out
}

func watcher(v forward.ViewerStats) topologyViewer {
	return topologyViewer{
		ID: v.ID, Subject: v.Subject, Since: v.Since.UTC(), State: v.State, Path: v.Path, Remote: v.Remote, Codec: v.Codec, SRTP: v.Profile, Quality: string(v.Quality), Layer: v.Layer, Estimate: v.Estimate,
		Packets: v.Packets, Bytes: v.Bytes, Bitrate: v.Bitrate, Loss: v.Loss, Lost: v.Lost, Jitter: v.Jitter.Seconds(), RTT: v.RTT.Seconds(),
		Score: v.Score, Group: v.Group.String(), Worker: v.Worker, NACKs: v.NACKs, RTX: v.RTX, FEC: v.FEC, PLIs: v.PLIs, Skipped: v.Skipped, Thinned: v.Thinned, Queue: v.Queued.Milliseconds(), JoinTime: v.Join.Seconds(),
	}
}
