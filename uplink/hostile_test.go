package uplink

import (
	"bufio"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// impostor is a listener whose every connection behaves as a test says.
func impostor(t *testing.T, behave func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			behave(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-served
	})
	return l.Addr().String()
}

func write(c net.Conn, s string) { _, _ = io.WriteString(c, s) }

// read reads control packets until one of the given kind.
func read[P packets.ControlPacket](c io.Reader) (P, bool) {
	for {
		p, err := packets.ReadPacket(c)
		if err != nil {
			var none P
			return none, false
		}
		if p, ok := p.(P); ok {
			return p, true
		}
	}
}

func TestHostileBrokers(t *testing.T) {
	leaks(t)
	tests := []struct {
		name   string
		behave func(net.Conn)
		err    string // parts of the error, one of which must be there
	}{
		{"says nothing", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, "no answer|timeout"}, // ours, or the library's

		{"hangs up", func(net.Conn) {}, ""},
		{"not MQTT", func(c net.Conn) { write(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, "out of order"},
		{"unknown refusal", func(c net.Conn) {
			read[*packets.ConnectPacket](c)
			write(c, "\x20\x02\x00\x4d")
		}, "CONNACK"},
		{"giant length", func(c net.Conn) {
			read[*packets.ConnectPacket](c)
			write(c, connack+"\x30\xff\xff\xff\x7f")
			_, _ = io.Copy(io.Discard, c)
		}, "over 131072"},
		{"SUBACK with many codes", func(c net.Conn) {
			read[*packets.ConnectPacket](c)
			write(c, connack)
			if p, ok := read[*packets.SubscribePacket](c); ok {
				write(c, "\x90\x22"+string([]byte{byte(p.MessageID >> 8), byte(p.MessageID)})+strings.Repeat("\x01", 32))
			}
			_, _ = io.Copy(io.Discard, c)
		}, "34 bytes, not 3"},
		{"unknown packet", func(c net.Conn) {
			read[*packets.ConnectPacket](c)
			write(c, connack+"\xf0\x00")
			_, _ = io.Copy(io.Discard, c)
		}, "packet type 15"},
		{"never grants", func(c net.Conn) {
			read[*packets.ConnectPacket](c)
			write(c, connack)
			_, _ = io.Copy(io.Discard, c)
		}, "no acknowledgement"},
		{"hangs up after CONNACK", func(c net.Conn) {
			read[*packets.ConnectPacket](c)
			write(c, connack)
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			address := impostor(t, tt.behave)
			u, stop := start(t, testConfig("mqtt://"+address), &boxState{}, func(u *Uplink) {
				u.limits.connect, u.limits.ack = 300*time.Millisecond, 200*time.Millisecond
			})
			until(t, "given up", func() bool { return u.Stats().LastError != "" })
			contains := func(part string) bool { return strings.Contains(u.Stats().LastError, part) }
			if s := u.Stats(); !slices.ContainsFunc(strings.Split(tt.err, "|"), contains) || s.Connected || time.Until(s.NextTry) > waitFirst {
				t.Errorf("stats %+v, want an error with %q", s, tt.err)
			}
			if took := stop(); took > 3*time.Second {
				t.Errorf("stopping took %v", took)
			}
		})
	}
}

// serveGrant is a broker up to the grant, and acknowledges n publications.
func serveGrant(c net.Conn, n int) {
	r := bufio.NewReader(c)
	read[*packets.ConnectPacket](r)
	write(c, connack)
	if p, ok := read[*packets.SubscribePacket](r); ok {
		write(c, "\x90\x03"+string([]byte{byte(p.MessageID >> 8), byte(p.MessageID), 1}))
	}
	for range n {
		if p, ok := read[*packets.PublishPacket](r); ok {
			write(c, "\x40\x02"+string([]byte{byte(p.MessageID >> 8), byte(p.MessageID)}))
		}
	}
}

// A broker that is there but takes no byte more: a publication is under way
// for ever, the buffers of the path are full. Neither may hold up the stop.
func TestHalfOpenConnection(t *testing.T) {
	leaks(t)
	release := make(chan struct{})
	address := impostor(t, func(c net.Conn) {
		_ = c.(*net.TCPConn).SetReadBuffer(1)
		serveGrant(c, 2) // presence and configuration
		<-release
	})
	t.Cleanup(func() { close(release) }) // before the impostor's own clean-up
	u, stop := start(t, testConfig("mqtt://"+address), &boxState{}, nil)
	until(t, "a window waits", func() bool { return u.Stats().Connected && u.Stats().OutboxRecords > 0 })
	if took := stop(); took > 3*time.Second {
		t.Errorf("stopping took %v", took)
	}
	if u.Stats().Published["stats"] != 0 {
		t.Error("a window counts as published without an acknowledgement")
	}
}

// Where nothing is acknowledged any more, the connection is given up and a
// new one is made; nothing of the outbox is lost.
func TestDeadConnectionIsReplaced(t *testing.T) {
	leaks(t)
	conns := make(chan int, 10)
	n := 0
	address := impostor(t, func(c net.Conn) {
		n++
		conns <- n
		if n == 1 {
			serveGrant(c, 2)
			_, _ = io.Copy(io.Discard, c)
			return
		}
		serveGrant(c, 1000)
	})
	u, _ := start(t, testConfig("mqtt://"+address), &boxState{}, func(u *Uplink) { u.limits.ack = 100 * time.Millisecond })
	until(t, "published on a second connection", func() bool { return u.Stats().Published["stats"] > 0 })
	if s := u.Stats(); s.Connects < 2 || s.Conn < 2 {
		t.Errorf("stats %+v", s)
	}
	if got := <-conns; got != 1 {
		t.Errorf("first connection is %d", got)
	}
}

// A stop does not wait for a broker that never answers CONNECT.
func TestStopWhileConnecting(t *testing.T) {
	leaks(t)
	asked := make(chan struct{}, 1)
	address := impostor(t, func(c net.Conn) {
		asked <- struct{}{}
		_, _ = io.Copy(io.Discard, c)
	})
	_, stop := start(t, testConfig("mqtt://"+address), &boxState{}, nil)
	<-asked
	if took := stop(); took > 3*time.Second {
		t.Errorf("stopping took %v", took)
	}
}
