package file

import (
	"context"
	"errors"
	"io"
	"time"

	"edged/capture"
)

// player sends the samples of a reader to a sink when their time has come.
type player struct {
	r     reader
	sink  capture.Sink
	film  *capture.Bitstream
	frame capture.Frame

	described capture.Track
	sound     *soundTrack  // nil: none
	still     func() error // says what became of the file, once a turn

	base  int64     // where this turn of the file begins
	start time.Time // when time 0 was, or would have been
}

func newPlayer(r reader, sink capture.Sink) (*player, error) {
	film, err := capture.NewBitstream(r.codec())
	if err != nil {
		return nil, err
	}
	return &player{r: r, sink: sink, film: film, still: func() error { return nil }}, nil
}

// run plays until ctx is done (then the error means nothing) or the file is
// at fault.
func (p *player) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	p.start = time.Now()
	for {
		length, err := p.turn(ctx, timer)
		if err != nil {
			return err
		}
		if err := p.still(); err != nil {
			return err
		}
		p.base += length
		if err := p.r.rewind(); err != nil {
			return err
		}
		if p.sound != nil {
			p.sound.rewind()
		}
	}
}

// turn plays the file once and gives its length.
func (p *player) turn(ctx context.Context, timer *time.Timer) (int64, error) {
	last, step := int64(-1), int64(singleStep)
	if err := p.observe(p.r.header()); err != nil {
		return 0, err
	}
	for {
		s, err := p.r.next()
		if errors.Is(err, io.EOF) && last < 0 {
			return 0, capture.Errorf(capture.CodeMedia, "no pictures")
		}
		if errors.Is(err, io.EOF) {
			err := p.speak(last+step-soundStep+1, func(at int64) error { return p.wait(ctx, timer, at) })
			return last + step, err
		}
		if err != nil {
			return 0, err
		}
		if last >= 0 {
			step = s.at - last
		}
		last = s.at
		if err := p.speak(s.at, func(at int64) error { return p.wait(ctx, timer, at) }); err != nil {
			return 0, err
		}
		if err := p.wait(ctx, timer, p.base+s.at); err != nil {
			return 0, err
		}
		if err := p.send(s); err != nil {
			return 0, err
		}
	}
}

// wait sleeps until media time at. After a long delay, of a suspended machine
// say, it goes on from here instead of rushing after the clock.
func (p *player) wait(ctx context.Context, timer *time.Timer, at int64) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	due := p.start.Add(duration(at))
	left := time.Until(due)
	if left < -maxLate {
		p.start = p.start.Add(-left)
	}
	if left <= 0 {
		return nil
	}
	timer.Reset(left)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// duration converts without overflow for as long as a process may live.
func duration(ticks int64) time.Duration {
	return time.Duration(ticks/clockRate)*time.Second + time.Duration(ticks%clockRate)*time.Second/clockRate
}

// observe learns what the stream says of itself.
func (p *player) observe(unit [][]byte) error {
	if len(unit) == 0 {
		return nil
	}
	if err := p.film.Observe(unit); err != nil {
		return &capture.Error{Code: capture.CodeMedia, Err: err}
	}
	if p.film.Reorders() || p.r.codec() == capture.H264 && hasB(unit) {
		return errB
	}
	return nil
}

func (p *player) send(s sample) error {
	if err := p.observe(s.unit); err != nil {
		return err
	}
	track, ok := p.film.Track()
	if !ok {
		return nil // before the first keyframe
	}
	if err := p.film.Pack(s.unit, &p.frame); err != nil {
		return &capture.Error{Code: capture.CodeMedia, Err: err}
	}
	if len(p.frame.Payloads) == 0 {
		return nil
	}
	if track != p.described {
		p.described = track
		p.sink.Describe(p.tracks(track))
	}
	p.frame.RTPTime = uint32(p.base + s.at)
	p.frame.Captured = p.start.Add(duration(p.base + s.at))
	p.sink.Frame(&p.frame)
	return nil
}
