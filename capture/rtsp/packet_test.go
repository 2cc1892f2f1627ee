package rtsp

import (
	"github.com/pion/rtp"

	"edged/capture"
)

func packet(seq uint16, ts uint32, marker bool, payload ...byte) *rtp.Packet {
	return &rtp.Packet{Header: rtp.Header{SequenceNumber: seq, Timestamp: ts, Marker: marker}, Payload: payload}
}

type sinkFunc func(*capture.Frame)

func (sinkFunc) Describe([]capture.Track)  {}
func (f sinkFunc) Frame(fr *capture.Frame) { f(fr) }
