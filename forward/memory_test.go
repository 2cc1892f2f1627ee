package forward_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"strconv"
	"testing"

	"edged/forward"
)

// memoryBound is the most bytes of heap and stacks that a viewer may cost. It
// is about 130 KB, however many addresses the box has.
const memoryBound = 160 << 10

// TestPeerProcess is no test: it is the viewers' side of the one below, in a
// process of its own. It writes an offer a line and reads an answer a line.
func TestPeerProcess(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("EDGED_PEERS"))
	if err != nil {
		t.Skip("started by TestMemoryPerViewer")
	}
	in, out := bufio.NewReaderSize(os.Stdin, 1<<20), json.NewEncoder(os.Stderr)
	cert := certificate(t)
	var peers []*peer
	for range n {
		p := newPeer(t, cert)
		p.gone = make(chan struct{})
		if err := out.Encode(p.offer(true)); err != nil {
			t.Fatal(err)
		}
		line, err := in.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(line, &p.answer); err != nil {
			t.Fatal(err)
		}
		if err := p.connect(); err != nil {
			t.Fatal(err)
		}
		p.live(1)
		peers = append(peers, p)
	}
	peers[n-1].live(10)
	_ = out.Encode("live")
	_, _ = io.Copy(io.Discard, in) // until the test closes it
	os.Exit(0)
}

func TestMemoryPerViewer(t *testing.T) {
	const viewers = 100
	s := startSFU(t, func(c *forward.Config) { c.MaxViewers = viewers })
	st, _ := pulse(t, s, "dock", 9)
	child := exec.Command(os.Args[0], "-test.run=^TestPeerProcess$")
	child.Env = append(os.Environ(), fmt.Sprintf("EDGED_PEERS=%d", viewers))
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := child.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stdin.Close()
		if err := child.Wait(); err != nil {
			t.Errorf("the viewers' process: %v", err)
		}
	}()
	offers := json.NewDecoder(stderr)
	before := resident()
	before.heap -= st.Stats().Ring // shared by all, and still growing
	quiet := slog.New(slog.DiscardHandler)
	for range viewers {
		var offer string
		if err := offers.Decode(&offer); err != nil {
			t.Fatal(err)
		}
		_, answer, err := s.Join(context.Background(), st, forward.ViewerOptions{Offer: offer, Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		line, _ := json.Marshal(answer)
		if _, err := stdin.Write(append(line, '\n')); err != nil {
			t.Fatal(err)
		}
	}
	var live string
	if err := offers.Decode(&live); err != nil {
		t.Fatal(err)
	}
	after := resident()
	after.heap -= st.Stats().Ring
	each := (after.heap - before.heap + after.stacks - before.stacks) / viewers
	t.Logf("%d bytes a viewer: heap %d, stacks %d; %.1f goroutines", each, (after.heap-before.heap)/viewers, (after.stacks-before.stacks)/viewers, float64(after.goroutines-before.goroutines)/viewers)
	if file := os.Getenv("EDGED_HEAP_PROFILE"); file != "" {
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		_ = pprof.Lookup("heap").WriteTo(f, 0)
		_ = f.Close()
		g, _ := os.Create(file + ".goroutines")
		_ = pprof.Lookup("goroutine").WriteTo(g, 1)
		_ = g.Close()
	}
	if each > memoryBound && !raceDetector {
		t.Errorf("%d bytes a viewer, want %d at most", each, memoryBound)
	}
}

type memory struct{ heap, stacks, goroutines int }

func resident() memory {
	var m runtime.MemStats
	for range 6 { // empties pools, and halves each stack that a handshake has grown
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return memory{int(m.HeapInuse), int(m.StackInuse), runtime.NumGoroutine()}
}
