// Command limit is the least that forwarding can cost: for each frame of the
// clip and each receiver it copies the packets, writes an RTP header, seals
// them with AES-128-GCM (RFC 7714) and sends them with UDP segmentation
// offload, many receivers a system call. It has no signalling, no feedback
// and no state; a server's cost is told as a multiple of it.
package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"edged/capture"
	"edged/internal/lab/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "limit:", err)
		os.Exit(1)
	}
}

// run sends until ctx is done.
func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("limit", flag.ContinueOnError)
	clip := flags.String("clip", "", "H.264 byte stream whose frame sizes are sent; empty: a small built-in one")
	fps := flags.Float64("fps", 30, "frames a second of the clip")
	to := flags.String("to", "", "receivers' addresses, separated by commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	source, err := bench.Play(*clip, *fps)
	if err != nil {
		return err
	}
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	defer socket.Close()
	s, err := newSender(socket, *to)
	if err != nil {
		return err
	}
	return errors.Join(source.Run(ctx, s), s.err)
}

// sender is the sink of the recording.
type sender struct {
	batch     *batch
	receivers []receiver
	plain     []byte // the frame: headers and payloads of equal size, laid out as they are sent
	err       error  // the first one
}

type receiver struct {
	to   netip.AddrPort
	seal cipher.AEAD
	seq  uint16
	buf  []byte // the sealed frame; the batch refers to it until it is flushed
}

const (
	header  = 12
	tag     = 16
	maxSend = 65000 // bytes a message may carry in segments
	maxSegs = 64    // segments a message may carry
)

func newSender(socket *net.UDPConn, to string) (*sender, error) {
	b, err := newBatch(socket)
	if err != nil {
		return nil, err
	}
	s := &sender{batch: b}
	for a := range strings.SplitSeq(to, ",") {
		addr, err := netip.ParseAddrPort(a)
		if err != nil {
			return nil, fmt.Errorf("receiver: %w", err)
		}
		block, err := aes.NewCipher(make([]byte, 16))
		if err != nil {
			return nil, err
		}
		seal, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		s.receivers = append(s.receivers, receiver{to: addr, seal: seal})
	}
	return s, nil
}

// Describe implements capture.Sink.
func (s *sender) Describe([]capture.Track) {}

// Frame implements capture.Sink. The frame's bytes are cut anew into as many
// packets of equal size, so that one message carries as much as it can.
func (s *sender) Frame(f *capture.Frame) {
	bytes := 0
	for _, p := range f.Payloads {
		bytes += len(p)
	}
	packets := max(1, (bytes+capture.MaxPayload-1)/capture.MaxPayload)
	size := header + (bytes+packets-1)/packets
	s.plain = grow(s.plain, packets*size)
	for i := range s.receivers {
		if err := s.receivers[i].send(s.batch, s.plain, packets, size); err != nil && s.err == nil {
			s.err = err
		}
	}
	if err := s.batch.flush(); err != nil && s.err == nil {
		s.err = err
	}
}

// send seals the frame for one receiver and adds it to the batch.
func (r *receiver) send(b *batch, plain []byte, packets, size int) error {
	sealed := size + tag
	r.buf = grow(r.buf, packets*sealed)
	var nonce [12]byte
	for i := range packets {
		p := r.buf[i*sealed : (i+1)*sealed]
		copy(p, plain[i*size:(i+1)*size])
		r.seq++
		p[0], p[1] = 0x80, 102
		binary.BigEndian.PutUint16(p[2:], r.seq)
		binary.BigEndian.PutUint16(nonce[10:], r.seq)
		r.seal.Seal(p[header:header], nonce[:], p[header:size], p[:header])
	}
	most := min(maxSegs, maxSend/sealed) * sealed
	for rest := r.buf; len(rest) > 0; {
		n := min(most, len(rest))
		if err := b.add(r.to, rest[:n], sealed); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}
