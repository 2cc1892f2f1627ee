package rtsp

import (
	"context"
	"testing"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/liberrors"

	"edged/capture"
)

func TestLearnsTheTransport(t *testing.T) {
	silence := liberrors.ErrClientUDPTimeout{}
	patience := capture.Errorf(capture.CodeStalled, "no frame within 10s")
	refusal := liberrors.ErrClientBadStatusCode{Code: 461, Message: "Unsupported transport"}
	for name, c := range map[string]struct {
		tcp     bool // before
		packets bool
		why     error
		want    bool
	}{
		"UDP, silent":                {false, false, silence, true},
		"UDP, too slow for its box":  {false, false, patience, true},
		"UDP, fell silent":           {false, true, silence, false},
		"UDP, ended by its owner":    {false, false, context.Canceled, false},
		"UDP, not there":             {false, false, capture.Errorf(capture.CodeRefused, "connection refused"), false},
		"TCP, silent":                {true, false, patience, false},
		"TCP, refused":               {true, false, refusal, false},
		"TCP, fell silent":           {true, true, patience, true},
		"TCP, not there any more":    {true, false, capture.Errorf(capture.CodeRefused, "connection refused"), true},
		"TCP, ended before pictures": {true, false, context.Canceled, true},
	} {
		s := source(t, "rtsp://192.0.2.1/")
		s.viaTCP.Store(c.tcp)
		s.learn(c.packets, c.why)
		if got := s.protocol(); (got != nil && *got == gortsplib.ProtocolTCP) != c.want {
			t.Errorf("%s: then %v", name, got)
		}
	}
	s := source(t, "rtsp://192.0.2.1/#transport=udp")
	s.learn(false, silence)
	if got := s.protocol(); *got != gortsplib.ProtocolUDP {
		t.Errorf("the source says UDP: %v", got)
	}
}
