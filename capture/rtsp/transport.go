package rtsp

import (
	"errors"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/liberrors"

	"edged/capture"
)

// protocol is how media is to come this time. Where the source leaves it open,
// UDP is tried first, unless that was in vain before: each time it would cost
// 3 seconds without a picture.
func (s *session) protocol() *gortsplib.Protocol {
	if s.addr.protocol == nil && s.viaTCP.Load() {
		tcp := gortsplib.ProtocolTCP
		return &tcp
	}
	return s.addr.protocol
}

// learn draws the lesson from a run that is over: one that had not one packet
// of the picture before somebody lost patience, or that was refused, chose the
// wrong transport. The library falls back by itself, but takes reports (RTCP)
// for a sign of life. That a run was ended otherwise says nothing.
func (s *session) learn(packets bool, why error) {
	if s.addr.protocol != nil || packets {
		return
	}
	silent := fault(why).Code == capture.CodeStalled
	refused := errors.As(why, new(liberrors.ErrClientBadStatusCode))
	switch tcp := s.viaTCP.Load(); {
	case tcp && (silent || refused):
		s.viaTCP.Store(false)
	case !tcp && silent:
		s.viaTCP.Store(true)
	}
}
