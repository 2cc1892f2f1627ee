package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
)

// What arrives opens with the key and is numbered without a hole: the limit
// does the work it is the limit of.
func TestLimitSendsSealedPackets(t *testing.T) {
	defer goleak.VerifyNone(t)
	receiver, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error { return run(ctx, []string{"-to", receiver.LocalAddr().String()}) })
	defer func() {
		cancel()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	}()
	block, _ := aes.NewCipher(make([]byte, 16))
	open, _ := cipher.NewGCM(block)
	buf := make([]byte, 2000)
	_ = receiver.SetReadDeadline(time.Now().Add(30 * time.Second))
	for want := uint16(1); want < 100; want++ {
		n, err := receiver.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if n > 1200 {
			t.Fatalf("a packet of %d bytes", n)
		}
		if got := binary.BigEndian.Uint16(buf[2:]); got != want {
			t.Fatalf("sequence number %d, want %d", got, want)
		}
		var nonce [12]byte
		copy(nonce[10:], buf[2:4])
		if _, err := open.Open(nil, nonce[:], buf[header:n], buf[:header]); err != nil {
			t.Fatalf("packet %d: %v", want, err)
		}
	}
}

func TestLimitRefuses(t *testing.T) {
	for _, args := range [][]string{nil, {"-to", "nowhere"}, {"-clip", "missing.h264"}} {
		if run(t.Context(), args) == nil {
			t.Errorf("%v were taken", args)
		}
	}
}
