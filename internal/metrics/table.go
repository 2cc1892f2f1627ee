package metrics

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"edged/capture"
	"edged/forward"
)

type kind string

const (
	counter   kind = "counter"
	gauge     kind = "gauge"
	histogram kind = "histogram"
)

func (k kind) value() prometheus.ValueType {
	if k == counter {
		return prometheus.CounterValue
	}
	return prometheus.GaugeValue
}

// emit takes a value and its labels, in the order of the row.
type emit func(value float64, labels ...string)

// row is one metric. No label may name a viewer or an address: their number
// has no bound, and who looks is nobody's business.
type row struct {
	name      string
	kind      kind
	labels    []string
	help      string
	read      func(*Snapshot, emit)
	histogram func(*Snapshot) forward.Histogram // in place of read
}

var table = []row{
	{name: "build_info", kind: gauge, labels: []string{"version"}, help: "Always 1; the version that runs.",
		read: func(s *Snapshot, e emit) { e(1, s.Version) }},

	{name: "camera_up", kind: gauge, labels: []string{"camera"}, help: "1 while the camera delivers frames.",
		read: func(s *Snapshot, e emit) {
			for _, c := range s.Cameras {
				e(truth(c.Phase == capture.Live), c.ID)
			}
		}},
	{name: "camera_frames_total", kind: counter, labels: []string{"camera", "layer"}, help: "Frames that the camera delivered, by layer (0 is the best), or audio.",
		read: func(s *Snapshot, e emit) { eachTrack(s, e, func(c *capture.State) []uint64 { return c.Frames }) }},
	{name: "camera_bitrate_bits", kind: gauge, labels: []string{"camera", "layer"}, help: "Bits a second that the camera delivers, over the last seconds.",
		read: func(s *Snapshot, e emit) { eachTrack(s, e, func(c *capture.State) []float64 { return c.Bitrate }) }},
	{name: "camera_restarts_total", kind: counter, labels: []string{"camera", "reason"}, help: "Failures after which the camera was started again, by reason.",
		read: func(s *Snapshot, e emit) {
			for _, c := range s.Cameras {
				for _, code := range slices.Sorted(maps.Keys(c.Restarts)) {
					e(float64(c.Restarts[code]), c.ID, string(code))
				}
			}
		}},
	{name: "camera_input_lost_total", kind: counter, labels: []string{"camera"}, help: "Pictures that a V4L2 camera counted and that did not come.",
		read: func(s *Snapshot, e emit) { eachInput(s, e, func(in *capture.Input) uint64 { return in.Lost }) }},
	{name: "camera_input_damaged_total", kind: counter, labels: []string{"camera"}, help: "Pictures of a V4L2 camera that came damaged, and were left out.",
		read: func(s *Snapshot, e emit) { eachInput(s, e, func(in *capture.Input) uint64 { return in.Damaged }) }},
	{name: "camera_keyframe_requests_total", kind: counter, labels: []string{"camera"}, help: "Keyframes asked of the camera.",
		read: func(s *Snapshot, e emit) {
			for _, c := range s.Cameras {
				e(float64(c.Keyframes), c.ID)
			}
		}},

	{name: "viewers", kind: gauge, labels: []string{"camera"}, help: "Viewers of the camera now.",
		read: func(s *Snapshot, e emit) {
			for _, st := range s.SFU.Streams {
				e(float64(len(st.Viewers)), st.ID)
			}
		}},
	{name: "viewer_groups", kind: gauge, labels: []string{"camera", "group"}, help: "Viewers of the camera now, by how good their paths are: good, fair, poor.",
		read: func(s *Snapshot, e emit) {
			for _, st := range s.SFU.Streams {
				for g := forward.Good; g <= forward.Poor; g++ {
					e(0, st.ID, g.String())
				}
				for _, v := range st.Viewers {
					e(1, st.ID, v.Group.String())
				}
			}
		}},
	{name: "viewer_joins_total", kind: counter, labels: []string{"camera", "result"}, help: "Attempts to view the camera, by result.",
		read: func(s *Snapshot, e emit) { pairs(s.SFU.Joins, e) }},
	{name: "viewers_refused_total", kind: counter, labels: []string{"reason"}, help: "Viewers not admitted, by the bound reached: viewers, cpu, memory, bitrate.",
		read: func(s *Snapshot, e emit) { byKey(s.SFU.Refused, e) }},
	{name: "viewer_join_seconds", kind: histogram, help: "From the viewer's offer to the first keyframe sent.",
		histogram: func(s *Snapshot) forward.Histogram { return s.SFU.JoinSeconds }},

	{name: "forward_packets_total", kind: counter, help: "Media packets sent to viewers, with those sent again.",
		read: func(s *Snapshot, e emit) { e(float64(s.SFU.Packets)) }},
	{name: "forward_bytes_total", kind: counter, help: "Bytes of media packets sent to viewers.",
		read: func(s *Snapshot, e emit) { e(float64(s.SFU.Bytes)) }},
	{name: "forward_dropped_total", kind: counter, labels: []string{"reason"}, help: "Frames not sent to a viewer, by reason.",
		read: func(s *Snapshot, e emit) { byKey(s.SFU.Dropped, e) }},
	{name: "forward_ignored_total", kind: counter, help: "Datagrams received on the media port that were nobody's, malformed, or too many.",
		read: func(s *Snapshot, e emit) { e(float64(s.SFU.Ignored)) }},
	{name: "forward_nacks_total", kind: counter, help: "Packets that viewers asked for again.",
		read: func(s *Snapshot, e emit) { e(float64(s.SFU.NACKs)) }},
	{name: "forward_rtx_packets_total", kind: counter, help: "Packets sent again.",
		read: func(s *Snapshot, e emit) { e(float64(s.SFU.RTX)) }},
	{name: "forward_fec_packets_total", kind: counter, help: "Repair packets (FlexFEC) sent, among all packets sent.",
		read: func(s *Snapshot, e emit) { e(float64(s.SFU.FEC)) }},
	{name: "forward_frame_delay_seconds", kind: histogram, help: "From a frame's arrival to the last viewer's socket.",
		histogram: func(s *Snapshot) forward.Histogram { return s.SFU.FrameDelay }},

	{name: "data_messages_total", kind: counter, labels: []string{"kind"}, help: "Messages sent to viewers on data channels: records on meta, events.",
		read: func(s *Snapshot, e emit) { byKey(s.SFU.Data, e) }},
	{name: "data_dropped_total", kind: counter, labels: []string{"reason"}, help: "Records not sent to a viewer, by reason.",
		read: func(s *Snapshot, e emit) { byKey(s.SFU.DataDropped, e) }},
	{name: "data_cuts_total", kind: counter, help: "Viewers that lost their data channels, not their picture, for misuse.",
		read: func(s *Snapshot, e emit) { e(float64(s.SFU.DataCuts)) }},
	{name: "forward_workers", kind: gauge, labels: []string{"camera"}, help: "Workers that serve the camera's viewers.",
		read: func(s *Snapshot, e emit) {
			for _, st := range s.SFU.Streams {
				e(float64(len(st.Workers)), st.ID)
			}
		}},
	{name: "forward_worker_busy_ratio", kind: gauge, labels: []string{"camera", "worker"}, help: "Share of its time that a worker spent on its viewers, over the last second.",
		read: func(s *Snapshot, e emit) {
			for _, st := range s.SFU.Streams {
				for i, w := range st.Workers {
					e(w.Busy, st.ID, strconv.Itoa(i))
				}
			}
		}},

	{name: "signaling_active_connections", kind: gauge, labels: []string{"transport"}, help: "Signalling connections and sessions now, by transport.",
		read: func(s *Snapshot, e emit) { byKey(s.Signaling.Active, e) }},
	{name: "signaling_handshake_duration_seconds", kind: histogram, help: "From an offer to its answer.",
		histogram: func(s *Snapshot) forward.Histogram { return s.Signaling.Handshake }},
	{name: "signaling_messages_total", kind: counter, labels: []string{"method", "result"}, help: "Signalling requests, by method and result.",
		read: func(s *Snapshot, e emit) { pairs(s.Signaling.Messages, e) }},

	{name: "turn_allocations", kind: gauge, help: "TURN allocations now.",
		read: func(s *Snapshot, e emit) { e(float64(s.TURN.Allocations)) }},
	{name: "turn_relayed_bytes_total", kind: counter, labels: []string{"direction"}, help: "Payload bytes relayed: in from viewers, out to viewers.",
		read: func(s *Snapshot, e emit) {
			e(float64(s.TURN.RelayedIn), "in")
			e(float64(s.TURN.RelayedOut), "out")
		}},
	{name: "turn_auth_failures_total", kind: counter, help: "TURN requests with wrong, expired or malformed credentials.",
		read: func(s *Snapshot, e emit) { e(float64(s.TURN.AuthFailures)) }},
	{name: "turn_denied_peers_total", kind: counter, help: "TURN permissions, channels and datagrams refused for their peer.",
		read: func(s *Snapshot, e emit) { e(float64(s.TURN.DeniedPeers)) }},

	{name: "uplink_connected", kind: gauge, help: "1 while the console's broker serves the box.",
		read: func(s *Snapshot, e emit) { e(truth(s.Uplink.Connected)) }},
	{name: "uplink_outbox_records", kind: gauge, help: "Messages that wait for the broker's acknowledgement.",
		read: func(s *Snapshot, e emit) { e(float64(s.Uplink.OutboxRecords)) }},
	{name: "uplink_outbox_bytes", kind: gauge, help: "Bytes of the messages that wait.",
		read: func(s *Snapshot, e emit) { e(float64(s.Uplink.OutboxBytes)) }},
	{name: "uplink_published_total", kind: counter, labels: []string{"kind"}, help: "Messages that the broker has acknowledged, by kind.",
		read: func(s *Snapshot, e emit) { byKey(s.Uplink.Published, e) }},

	{name: "config_revision", kind: gauge, help: "Revision of the configuration that runs.",
		read: func(s *Snapshot, e emit) { e(float64(s.ConfigRevision)) }},
	{name: "config_applies_total", kind: counter, labels: []string{"result"}, help: "Configurations that were to be applied, by result.",
		read: func(s *Snapshot, e emit) { byKey(s.ConfigApplies, e) }},

	{name: "storage_commits_total", kind: counter, help: "Transactions committed to the disk.",
		read: func(s *Snapshot, e emit) { e(float64(s.StorageCommits)) }},
	{name: "storage_bytes", kind: gauge, help: "Size of the database files.",
		read: func(s *Snapshot, e emit) { e(float64(s.StorageBytes)) }},
}

type number interface{ ~int | ~uint64 | ~float64 }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// byKey emits a map of values by one label.
func byKey[V number](m map[string]V, e emit) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		e(float64(m[k]), k)
	}
}

// pairs emits a map of values by two labels that a zero byte parts.
func pairs(m map[string]uint64, e emit) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		first, second, _ := strings.Cut(k, "\x00")
		e(float64(m[k]), first, second)
	}
}

// eachInput emits a value of each camera that is a device.
func eachInput(s *Snapshot, e emit, value func(*capture.Input) uint64) {
	for i := range s.Cameras {
		if in := &s.Cameras[i].Input; in.Mode != "" {
			e(float64(value(in)), s.Cameras[i].ID)
		}
	}
}

// eachTrack emits the values that a camera has by track.
func eachTrack[V number](s *Snapshot, e emit, values func(*capture.State) []V) {
	for i := range s.Cameras {
		c := &s.Cameras[i]
		v := values(c)
		for j, t := range c.Tracks[:min(len(c.Tracks), len(v))] {
			layer := string(capture.Audio)
			if t.Kind == capture.Video {
				layer = strconv.Itoa(t.Layer)
			}
			e(float64(v[j]), c.ID, layer)
		}
	}
}
