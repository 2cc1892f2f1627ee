package rtsp

import (
	"errors"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/liberrors"
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

// learn draws the lesson from a run that is over: one that played and had not
// one packet of the picture, or was refused, chose the wrong transport. Reports
// that come (RTCP), or a supervisor that lost its patience before the library
// did, say nothing else.
func (s *session) learn(played, packets bool, why error) {
	if s.addr.protocol != nil || packets {
		return
	}
	refused := errors.As(why, new(liberrors.ErrClientBadStatusCode))
	switch tcp := s.viaTCP.Load(); {
	case tcp && (played || refused):
		s.viaTCP.Store(false)
	case !tcp && played:
		s.viaTCP.Store(true)
	}
}
