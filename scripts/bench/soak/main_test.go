package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"edged/internal/lab/bench"
	"edged/internal/lab/soak"
)

func TestReport(t *testing.T) {
	var out bytes.Buffer
	report(&out, soak.Options{Viewers: 2}, soak.Report{
		Viewers: []bench.Counts{{Packets: 100, Frames: 30}, {Packets: 100, Frames: 29, Lost: 4}}, Least: 29,
		Took: time.Second, CPU: time.Millisecond, RSS: []uint64{1 << 20, 3 << 20}, Live: []uint64{1 << 19, 2 << 20}, Profiles: map[string]int{"AEAD_AES_128_GCM": 2},
	})
	for _, want := range []string{"59 in all, at least 29", "4 packets lost", "512 KiB at the start, 2048 KiB", "resident 1024 KiB, then 3072 KiB", "5000 ns a packet", "AEAD_AES_128_GCM"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	report(io.Discard, soak.Options{}, soak.Report{}) // nothing at all is no reason to panic
}

func TestSoakFails(t *testing.T) {
	for _, args := range [][]string{{"-what"}, {"-edged", "/no/such", "-cache", "../../../.cache/bench"}} {
		if run(t.Context(), args, io.Discard) == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
