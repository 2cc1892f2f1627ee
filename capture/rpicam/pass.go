package rpicam

import (
	"bufio"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"edged/capture"
)

// pass delivers what the program encodes, until that ends.
func pass(t *tool, sink capture.Sink) error {
	film, err := capture.NewBitstream(capture.H264)
	if err != nil {
		return err
	}
	p := &passage{sink: sink, film: film}
	u := &units{emit: p.deliver}
	var written atomic.Int64 // frames, as far as the program says
	t.readers.Go(func() {
		for s := bufio.NewScanner(t.times); s.Scan(); {
			if line := s.Bytes(); len(line) > 0 && line[0] != '#' {
				written.Add(1)
				_ = t.out.SetReadDeadline(time.Now()) // wakes the reader; where that is closed, it is awake
			}
		}
	})
	piece := make([]byte, 64<<10) // all that a pipe holds
	for {
		n, err := t.out.Read(piece)
		if n > 0 {
			p.arrived(u)
			if err := u.feed(piece[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			// First the deadline, then the count: one that is set from now
			// on wakes the next read.
			if err := t.out.SetReadDeadline(time.Time{}); err != nil {
				return err
			}
			// A frame is in the pipe before the line about it: when the pipe
			// is empty, all of it is here.
			if due := int(written.Load()); empty(t.out) {
				if err := u.flush(due); err != nil {
					return err
				}
			}
		case err != nil:
			return err
		}
	}
}

// empty tells that nothing waits in a pipe.
func empty(f *os.File) bool {
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	waiting := 0
	if err := conn.Control(func(fd uintptr) {
		waiting, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ)
	}); err != nil {
		return false
	}
	return err == nil && waiting == 0
}

// passage makes frames of access units.
type passage struct {
	sink  capture.Sink
	film  *capture.Bitstream
	track capture.Track // as last described
	frame capture.Frame
	start time.Time
	ticks int64     // RTP time of the last frame
	first time.Time // when the first bytes of the unit under way came
}

// arrived notes when a unit began to come: the nearest to when it was seen
// that is known.
func (p *passage) arrived(u *units) {
	if len(u.buf) == 0 || p.first.IsZero() {
		p.first = time.Now()
	}
}

func (p *passage) deliver(unit [][]byte) error {
	captured := p.first
	p.first = time.Now() // of what comes behind it in the same piece
	if err := p.film.Observe(unit); err != nil {
		return err
	}
	track, ok := p.film.Track()
	if !ok {
		return nil // before the first keyframe
	}
	if err := p.film.Pack(unit, &p.frame); err != nil {
		return err
	}
	if len(p.frame.Payloads) == 0 {
		return nil
	}
	if track != p.track {
		p.track = track
		p.sink.Describe([]capture.Track{track})
	}
	if p.start.IsZero() {
		p.start = captured
	}
	p.frame.Captured = captured
	p.ticks = max(p.ticks+1, captured.Sub(p.start).Microseconds()*9/100)
	p.frame.RTPTime = uint32(p.ticks)
	p.sink.Frame(&p.frame)
	return nil
}
