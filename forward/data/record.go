package data

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// Frame is a frame as it was sent to one viewer.
type Frame struct {
	Captured time.Time // wall clock
	RTP      uint32    // time on the viewer's wire
	Layer    int       // 0 is the best that the viewer can decode
	Keyframe bool
	Why      string        // the layer is this one: "estimate", "asked", "dead"
	Loss     float64       // of the viewer's path, 0..1
	RTT      time.Duration // likewise; 0: not known
}

// Annotation is what somebody knows of the scene at one moment, besides the
// picture.
type Annotation struct {
	captured time.Time
	kind     string
	data     json.RawMessage
}

var kinds = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)

// NewAnnotation checks and copies: kind is a word of a-z, 0-9, - and _, but
// not "frame"; data is JSON of at most [MaxEvent] bytes.
func NewAnnotation(captured time.Time, kind string, data json.RawMessage) (*Annotation, error) {
	switch {
	case !kinds.MatchString(kind) || kind == KindFrame:
		return nil, fmt.Errorf("annotation: bad kind %.40q", kind)
	case len(data) > MaxEvent:
		return nil, fmt.Errorf("annotation %q: %d bytes, at most %d are taken", kind, len(data), MaxEvent)
	case !json.Valid(data):
		return nil, fmt.Errorf("annotation %q: no JSON", kind)
	}
	return &Annotation{captured, kind, append(json.RawMessage(nil), data...)}, nil
}

// KindFrame is the kind of a record that only tells of a frame.
const KindFrame = "frame"

// Record is a record of meta as a viewer reads it.
type Record struct {
	Camera   string          `json:"camera"`
	Kind     string          `json:"kind"` // "frame", or an annotation's
	RTP      uint32          `json:"rtp"`  // RTP time of the frame that it belongs to, as that came over the wire
	NTP      [2]uint32       `json:"ntp"`  // seconds since 1900 and their fraction in 2^-32 (RFC 5905 §6), when the scene was seen
	Layer    int             `json:"layer,omitempty"`
	Keyframe bool            `json:"keyframe,omitempty"`
	Data     json.RawMessage `json:"data,omitempty"` // an annotation's
}

// toUnix is from the epoch of NTP to that of Unix, in seconds.
const toUnix = 2208988800

// Captured is when the scene was seen: between 1968 and 2104 (RFC 4330 §3).
func (r Record) Captured() time.Time {
	seconds := int64(r.NTP[0]) - toUnix
	if r.NTP[0] < 1<<31 {
		seconds += 1 << 32
	}
	return time.Unix(seconds, int64(r.NTP[1])*1e9>>32)
}

// ParseRecord reads a record.
func ParseRecord(b []byte) (r Record, err error) {
	if err = json.Unmarshal(b, &r); err != nil {
		return Record{}, fmt.Errorf("record: %w", err)
	}
	if r.Kind == "" {
		return Record{}, errors.New("record: no kind")
	}
	return r, nil
}

// appendHead appends a record up to its particulars. camera is JSON.
func appendHead(b, camera []byte, kind string, rtp uint32, captured time.Time) []byte {
	b = append(append(b, `{"camera":`...), camera...)
	b = append(append(b, `,"kind":"`...), kind...)
	b = strconv.AppendUint(append(b, `","rtp":`...), uint64(rtp), 10)
	b = strconv.AppendUint(append(b, `,"ntp":[`...), uint64(uint32(captured.Unix()+toUnix)), 10)
	b = strconv.AppendUint(append(b, ','), uint64(captured.Nanosecond())<<32/uint64(time.Second), 10)
	return append(b, ']')
}

func appendFrame(b, camera []byte, f Frame) []byte {
	b = appendHead(b, camera, KindFrame, f.RTP, f.Captured)
	b = strconv.AppendInt(append(b, `,"layer":`...), int64(f.Layer), 10)
	b = strconv.AppendBool(append(b, `,"keyframe":`...), f.Keyframe)
	return append(b, '}')
}

func appendAnnotation(b, camera []byte, a *Annotation, rtp uint32) []byte {
	b = appendHead(b, camera, a.kind, rtp, a.captured)
	b = append(append(b, `,"data":`...), a.data...)
	return append(b, '}')
}

// Notification is an event: a notification of JSON-RPC 2.0, as on the box's
// other channels. params must be values that JSON can carry.
func Notification(method string, params any) []byte {
	b, err := json.Marshal(struct {
		Version string `json:"jsonrpc"`
		Method  string `json:"method"`
		Params  any    `json:"params"`
	}{"2.0", method, params})
	if err != nil {
		panic(fmt.Sprintf("event %s: %v", method, err)) // a type of ours that has no JSON
	}
	return b
}

// layerEvent tells that the viewer has another layer; from is -1 where there
// was none.
func layerEvent(camera string, from, to int, why string) []byte {
	return Notification("view.layer", struct {
		Camera string `json:"camera"`
		From   int    `json:"from"`
		To     int    `json:"to"`
		Why    string `json:"why,omitempty"`
	}{camera, from, to, why})
}

// qualityEvent tells what the viewer asked for, and how its path is.
func qualityEvent(camera, quality string, p *path) []byte {
	return Notification("view.quality", struct {
		Camera  string  `json:"camera"`
		Quality string  `json:"quality"`
		Meta    string  `json:"meta"` // which records are sent
		Loss    float64 `json:"loss"`
		RTT     float64 `json:"rtt"` // ms
	}{camera, quality, p.detail.String(), p.loss, float64(p.rtt) / 1e6})
}
