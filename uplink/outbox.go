package uplink

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"edged/uplink/wire"
)

// statsCap leaves room in a message for a connection number that grew after
// the message was measured.
const statsCap = wire.MaxStats - 64

// outbox holds what the console has not acknowledged: windows that wait for
// their batch to fill, and batches. It is bounded by the number of windows;
// when full, the oldest batch makes room and a gap record says so. Its
// methods may be called from any goroutine.
type outbox struct {
	batch int // windows a message
	limit int // windows held

	mu      sync.Mutex
	head    wire.Stats // the fields that every message has; Seq is the last one given
	waiting []wire.Window
	records []record // oldest first
	windows int      // in records
	bytes   int      // of records, as encoded
}

type record struct {
	wire.Stats
	size int
}

func newOutbox(stream, boot string, batch, limit int) *outbox {
	return &outbox{
		batch: batch, limit: max(limit, batch),
		head: wire.Stats{V: wire.Version, Stream: stream, Boot: boot},
	}
}

// add takes a closed window; config and clock are as the box has them now.
func (o *outbox) add(w wire.Window, config wire.Revision, clock string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.head.Config, o.head.Clock = config, clock
	o.waiting = append(o.waiting, w)
	if len(o.waiting) < o.batch {
		return nil
	}
	return o.sealLocked()
}

// seal makes a message of the windows that wait, be they fewer than a batch.
func (o *outbox) seal() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sealLocked()
}

func (o *outbox) sealLocked() error {
	if len(o.waiting) == 0 {
		return nil
	}
	windows := o.waiting
	o.waiting = nil
	err := o.pushLocked(windows)
	for o.windows > o.limit {
		o.dropLocked()
	}
	return err
}

// pushLocked appends windows as one message, or as several where one would
// be too large: first fewer windows a message, then a window's cameras split.
func (o *outbox) pushLocked(windows []wire.Window) error {
	s := o.head
	s.Seq++
	s.Windows = windows
	b, err := encode(s)
	if err != nil {
		return err
	}
	switch n := len(windows); {
	case len(b) <= statsCap:
	case n > 1:
		return o.pushBothLocked(windows[:n/2], windows[n/2:])
	case len(windows[0].Cameras) > 1:
		first, second := splitWindow(windows[0])
		return o.pushBothLocked([]wire.Window{first}, []wire.Window{second})
	default:
		return fmt.Errorf("a window of one camera has %d bytes, over %d", len(b), statsCap)
	}
	o.head.Seq = s.Seq
	o.records = append(o.records, record{s, len(b)})
	o.windows += len(windows)
	o.bytes += len(b)
	return nil
}

func (o *outbox) pushBothLocked(a, b []wire.Window) error {
	if err := o.pushLocked(a); err != nil {
		return err
	}
	return o.pushLocked(b)
}

// splitWindow halves the cameras of a window. Part numbers keep the halves
// in order and apart: part p becomes 2p and 2p+1, beginning with 1.
func splitWindow(w wire.Window) (first, second wire.Window) {
	half := len(w.Cameras) / 2
	part := max(w.Part, 1)
	first, second = w, wire.Window{From: w.From, To: w.To, Seconds: w.Seconds}
	first.Part, second.Part = 2*part, 2*part+1
	first.Cameras, second.Cameras = w.Cameras[:half], w.Cameras[half:]
	return first, second
}

// dropLocked replaces the oldest batch, and the gap before it, by a gap. The
// gap takes the batch's number: a console that did get the batch, and whose
// acknowledgement was lost, then ignores the gap as a duplicate.
func (o *outbox) dropLocked() {
	gap := wire.Gap{Reason: "full"}
	i := 0
	if g := o.records[0].Gap; g != nil {
		gap = *g
		i = 1
	}
	dead := o.records[i]
	if gap.Windows == 0 {
		gap.From = dead.Windows[0].From
	}
	gap.To = dead.Windows[len(dead.Windows)-1].To
	gap.Windows += len(dead.Windows)
	for _, r := range o.records[:i+1] {
		o.bytes -= r.size
	}
	o.windows -= len(dead.Windows)
	dead.Windows, dead.Gap = []wire.Window{}, &gap
	if b, err := encode(dead.Stats); err == nil {
		dead.size = len(b)
	}
	o.bytes += dead.size
	o.records = slices.Replace(o.records, 0, i+1, dead)
}

// next gives the oldest message, encoded for a connection, and its number.
func (o *outbox) next(conn uint64) (payload []byte, seq uint64, ok bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.records) == 0 {
		return nil, 0, false, nil
	}
	s := o.records[0].Stats
	s.Conn = conn
	payload, err = encode(s)
	return payload, s.Seq, true, err
}

// done forgets the message that the console has acknowledged. Where it was
// replaced by a gap meanwhile, the gap goes: the console has the windows.
func (o *outbox) done(seq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.records) == 0 || o.records[0].Seq != seq {
		return
	}
	o.windows -= len(o.records[0].Windows)
	o.bytes -= o.records[0].size
	o.records = slices.Delete(o.records, 0, 1)
}

// size gives the number of messages that wait, and their bytes.
func (o *outbox) size() (records, bytes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.records), o.bytes
}

// encode gives JSON, compressed where it is long.
func encode(s wire.Stats) ([]byte, error) {
	plain, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("statistics: %w", err)
	}
	if len(plain) <= wire.GzipOver {
		return plain, nil
	}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(plain); err != nil {
		return nil, fmt.Errorf("statistics: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("statistics: %w", err)
	}
	return buf.Bytes(), nil
}
