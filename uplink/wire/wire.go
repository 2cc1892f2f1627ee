// Package wire has the payloads that a box and its console exchange over
// MQTT, as plain types with their JSON names. It does no input or output.
//
// Times are Unix milliseconds by the box's clock, durations are seconds,
// rates are bits a second. A reader ignores fields that it does not know.
package wire

// Version is the version of the topic tree and of every payload ("v").
const Version = 1

// Limits of the tree, in bytes of MQTT payload.
const (
	MaxPresence = 512
	MaxReported = 8 << 10
	MaxStats    = 8 << 10
	GzipOver    = 512 // a statistics payload longer than this is gzip (sniff 1f 8b)
)

// Root is the topic prefix of a box, without a slash at its end.
func Root(tenant, box string) string { return "edged/1/" + tenant + "/" + box }

// Topic suffixes of messages that a box publishes, and the one filter that
// it subscribes to.
const (
	TopicPresence = "/up/presence"
	TopicConfig   = "/up/config"
	TopicStats    = "/up/stats"
	FilterDown    = "/dn/#"
)

// States of a presence.
const (
	On  = "on"
	Off = "off"
)

// Reasons of an "off" presence.
const (
	ReasonStop = "stop" // the process was asked to stop
	ReasonLost = "lost" // the broker lost the connection (from the Will)
)

// Presence says whether a box is connected. It is retained, and it is the
// Will of each connection: a Will whose Conn is older than the newest "on"
// is late and means nothing.
type Presence struct {
	V       int      `json:"v"`
	State   string   `json:"state"`
	Reason  string   `json:"reason,omitempty"` // with "off"
	Conn    uint64   `json:"conn"`             // connections ever made by this box
	Boot    string   `json:"boot"`
	Version string   `json:"version"`
	Config  Revision `json:"config"`
	T       int64    `json:"t"`
	Clock   string   `json:"clock"` // synced, rtc, floor, none
}

// Revision orders configurations: by epoch, then by rev. Hash is the SHA-256
// of the document in hexadecimal, where the message carries it.
type Revision struct {
	Epoch uint64 `json:"epoch"`
	Rev   uint64 `json:"rev"`
	Hash  string `json:"hash,omitempty"`
}

// Reported is the state of a box's configuration. It is retained.
type Reported struct {
	V       int      `json:"v"`
	Good    Revision `json:"good"`    // the last that is confirmed
	Running Revision `json:"running"` // what runs now
	Source  string   `json:"source"`  // console, file, page, default
	Drift   bool     `json:"drift"`   // what runs is not what the console asked for
	Conn    uint64   `json:"conn"`
}

// Stats is a batch of windows. (box, Stream, Seq) is its identity: a message
// that comes twice is the same message.
type Stats struct {
	V       int      `json:"v"`
	Stream  string   `json:"stream"` // a UUID, new whenever Seq starts again
	Seq     uint64   `json:"seq"`
	Boot    string   `json:"boot"`
	Conn    uint64   `json:"conn"` // the connection that carries this copy
	Config  Revision `json:"config"`
	Clock   string   `json:"clock"`
	Windows []Window `json:"windows"`
	Gap     *Gap     `json:"gap,omitempty"` // in place of windows that are gone
}

// Gap says which time has no windows, and why.
type Gap struct {
	From    int64  `json:"from"`
	To      int64  `json:"to"`
	Reason  string `json:"reason"` // full: the outbox had no room
	Windows int    `json:"windows"`
}

// Window is what happened in one span of time. A window too large for a
// message comes in parts with equal From and To; Forward, TURN, Link and Host
// are in the first.
type Window struct {
	From    int64    `json:"from"`
	To      int64    `json:"to"`
	Seconds float64  `json:"s"` // by the monotonic clock
	Part    int      `json:"part,omitempty"`
	Cameras []Camera `json:"cameras,omitempty"`
	Forward *Forward `json:"forward,omitempty"`
	TURN    *TURN    `json:"turn,omitempty"`
	Link    *Link    `json:"link,omitempty"`
	Host    *Host    `json:"host,omitempty"`
}

// Gauge sums up a value that was sampled.
type Gauge struct {
	Min  float64 `json:"min"`
	Mean float64 `json:"mean"`
	Max  float64 `json:"max"`
}

// Histogram has the buckets that are not empty: Counts[i] observations were
// at most LE[i], in the unit of the field that has the histogram, and above
// the bucket before; Over were above every bound.
type Histogram struct {
	N      uint64    `json:"n"`
	Sum    float64   `json:"sum"`
	LE     []float64 `json:"le,omitempty"`
	Counts []uint64  `json:"c,omitempty"`
	Over   uint64    `json:"over,omitempty"`
}

// Camera is one camera in a window.
type Camera struct {
	ID        string  `json:"id"`
	State     string  `json:"state"`          // at the end of the window
	Code      string  `json:"code,omitempty"` // why it is not live
	Frames    uint64  `json:"frames"`
	Bytes     uint64  `json:"bytes"`
	Bitrate   float64 `json:"bps"`
	Restarts  uint64  `json:"restarts"`
	Keyframes uint64  `json:"keyframes"` // asked of the source
	Viewers   Gauge   `json:"viewers"`
}

// Forward is the SFU in a window.
type Forward struct {
	Packets uint64     `json:"packets"`
	Bytes   uint64     `json:"bytes"`
	NACKs   uint64     `json:"nacks"`
	RTX     uint64     `json:"rtx"`
	PLIs    uint64     `json:"plis"`
	Dropped uint64     `json:"dropped"`
	Viewers Gauge      `json:"viewers"`
	Loss    *Gauge     `json:"loss,omitempty"`  // fraction, by receiver reports
	RTT     *Histogram `json:"rtt,omitempty"`   // seconds
	Join    *Histogram `json:"join,omitempty"`  // seconds
	Delay   *Histogram `json:"delay,omitempty"` // seconds
}

// TURN is the relay in a window.
type TURN struct {
	Allocations  Gauge  `json:"allocations"`
	RelayedIn    uint64 `json:"in"`  // bytes from clients
	RelayedOut   uint64 `json:"out"` // bytes to clients
	AuthFailures uint64 `json:"auth_failures"`
	DeniedPeers  uint64 `json:"denied_peers"`
}

// Link is the connection to the broker in a window.
type Link struct {
	Up       float64 `json:"up"` // fraction of the samples
	Connects uint64  `json:"connects"`
}

// Host is the machine and the process in a window. What the machine does not
// tell is absent.
type Host struct {
	CPU         *float64 `json:"cpu,omitempty"`   // processors used by the process
	Busy        *float64 `json:"busy,omitempty"`  // fraction of all processors that was busy
	RSS         *Gauge   `json:"rss,omitempty"`   // bytes, of the process
	Available   *Gauge   `json:"avail,omitempty"` // bytes of memory
	Temperature *Gauge   `json:"temp,omitempty"`  // degrees Celsius, the hottest zone
	Throttled   *uint64  `json:"throttled,omitempty"`
}
