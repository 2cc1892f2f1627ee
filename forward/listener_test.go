package forward

import (
	"net"
	"testing"
)

// Connections above the bound are closed at once; a place that is given back,
// however often, is one place.
func TestConnectionsAreBounded(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &mediaListener{Listener: inner, places: make(chan struct{}, 1)}
	accepted := make(chan net.Conn)
	ended := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	dial()
	first := <-accepted
	if _, err := dial().Read(make([]byte, 1)); err == nil {
		t.Error("a connection above the bound was taken")
	}
	_ = first.Close()
	_ = first.Close()
	dial()
	second := <-accepted
	if len(l.places) != 1 {
		t.Errorf("%d places taken by one connection", len(l.places))
	}
	_ = second.Close()
	_ = l.Close()
	if err := <-ended; err == nil {
		t.Error("Accept goes on after Close")
	}
}
