package uplink

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// wireConn reads from a buffer, as from a broker.
type wireConn struct {
	net.Conn
	r io.Reader
}

func (c wireConn) Read(p []byte) (int, error) { return c.r.Read(p) }

const connack = "\x20\x02\x00\x00"

func TestGuard(t *testing.T) {
	long := "\x30\x80\x80\x08" + "\x00\x01a" + strings.Repeat("x", maxFrame-3)
	tests := []struct {
		name, in string
		pass     int    // bytes that come out
		err      string // part of the error, empty for the end of the input
	}{
		{"ordinary", connack + "\x90\x03\x00\x01\x01" + "\x40\x02\x00\x02" + "\xd0\x00" + "\x32\x06\x00\x01a\x00\x07x", 23, ""},
		{"subscription refused", connack + "\x90\x03\x00\x01\x80", 9, ""},
		{"subscription refused, MQTT 5 code", connack + "\x90\x03\x00\x01\x87", 9, ""},
		{"refused", "\x20\x02\x00\x05", 4, ""},
		{"longest", connack + long, 4 + len(long), ""},
		{"too long by one", connack + "\x30\x81\x80\x08", 4, "over 131072"},
		{"giant", connack + "\x30\xff\xff\xff\x7f", 4, "over 131072"},
		{"endless length", connack + "\x30\xff\xff\xff\xff\xff\xff", 4, "five bytes"},
		{"message before CONNACK", "\x30\x03\x00\x01a", 0, "out of order"},
		{"two CONNACK", connack + connack, 4, "out of order"},
		{"CONNACK code", "\x20\x02\x00\x4d", 0, "CONNACK"},
		{"CONNACK flags", "\x20\x02\xfe\x00", 0, "CONNACK"},
		{"SUBACK with many codes", connack + "\x90\x22\x00\x01" + strings.Repeat("\x01", 32), 4, "34 bytes, not 3"},
		{"SUBACK without a code", connack + "\x90\x02\x00\x01", 4, "2 bytes, not 3"},
		{"SUBACK code", connack + "\x90\x03\x00\x01\x02", 4, "SUBACK code 0x2"},
		{"packet type 0", connack + "\x00\x00", 4, "packet type 0"},
		{"packet type 15", connack + "\xf0\x00", 4, "packet type 15"},
		{"CONNECT from a broker", connack + "\x10\x00", 4, "packet type 1"},
		{"SUBSCRIBE from a broker", connack + "\x82\x00", 4, "packet type 8"},
		{"PUBREC", connack + "\x50\x02\x00\x01", 4, "packet type 5"},
		{"flags", connack + "\x41\x02\x00\x01", 4, "flags 0x1"},
		{"QoS 2", connack + "\x34\x06\x00\x01a\x00\x07x", 4, "QoS 2"},
		{"QoS 3", connack + "\x36\x06\x00\x01a\x00\x07x", 4, "QoS 3"},
		{"topic longer than the frame", connack + "\x30\x03\x01\x00a", 4, "topic of 256"},
		{"no room for the identifier", connack + "\x32\x03\x00\x01a", 4, "PUBLISH of 3"},
		{"no topic", connack + "\x30\x03\x00\x00a", 4, "topic of 0"},
		{"half a frame", connack + "\x30\x09\x00\x01a", 4, "unexpected EOF"},
		{"half a header", connack + "\x30\xff", 4, "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuard(wireConn{r: strings.NewReader(tt.in)}, time.Second)
			out, err := io.ReadAll(g)
			if string(out) != tt.in[:tt.pass] {
				t.Errorf("passed %d bytes, want %d", len(out), tt.pass)
			}
			switch {
			case tt.err == "" && err != nil:
				t.Errorf("error %v, want none", err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("error %v, want one with %q", err, tt.err)
			case err != nil && !errors.Is(err, errFrame) && !errors.Is(err, io.ErrUnexpectedEOF):
				t.Errorf("error %v is neither a violation nor the end", err)
			}
			if _, again := g.Read(make([]byte, 1)); err != nil && again == nil {
				t.Error("reads on after a violation")
			}
		})
	}
}

// A peer that does not read must not hold a writer for longer than allowed.
func TestGuardWriteDeadline(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	g := newGuard(near, 20*time.Millisecond)
	defer g.Close()
	if err := g.SetWriteDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := g.Write([]byte("x")); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("write to a peer that does not read: %v, want a time-out", err)
	}
}

// The guard passes on only frames that the library can read without a panic,
// unchanged.
func FuzzGuard(f *testing.F) {
	f.Add([]byte(connack + "\x90\x03\x00\x01\x01\x40\x02\x00\x02\xd0\x00\x32\x06\x00\x01a\x00\x07x"))
	f.Add([]byte(connack + "\x30\xff\xff\xff\x7f"))
	f.Add([]byte(connack + "\x90\x22\x00\x01\x01\x01\x01"))
	f.Add([]byte("\x20\x02\x00\x05"))
	f.Fuzz(func(t *testing.T, in []byte) {
		g := newGuard(wireConn{r: bytes.NewReader(in)}, time.Second)
		out, err := io.ReadAll(g)
		if !bytes.HasPrefix(in, out) {
			t.Fatal("bytes were changed")
		}
		if err == nil && len(out) != len(in) {
			t.Fatal("bytes were swallowed")
		}
		r := bytes.NewReader(out)
		for first := true; r.Len() > 0; first = false {
			p, err := packets.ReadPacket(r)
			if err != nil {
				t.Fatalf("the library cannot read what the guard passed: %v", err)
			}
			if s, ok := p.(*packets.SubackPacket); ok && len(s.ReturnCodes) != 1 {
				t.Fatalf("SUBACK with %d codes", len(s.ReturnCodes))
			}
			if _, ok := p.(*packets.ConnackPacket); ok != first {
				t.Fatal("CONNACK out of order")
			}
		}
	})
}
