package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edged/internal/lab/bench"
)

func TestParse(t *testing.T) {
	o, err := parse([]string{"-n", "10,200", "-only", "limit,edged"})
	if err != nil || len(o.counts) != 2 || o.counts[1] != 200 || o.wants(targets[1]) || !o.wants(targets[4]) {
		t.Errorf("%+v, %v", o, err)
	}
	for _, args := range [][]string{{"-n", "0"}, {"-n", "x"}, {"-n", "10,"}, {"-rounds", "0"}, {"-rate", "0"}, {"-only", "nginx"}, {"-what"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v were taken", args)
		}
	}
}

func TestQuietRoundsCount(t *testing.T) {
	all := []result{
		{target: "edged", viewers: 50, nsPacket: 100, foreign: 0.01},
		{target: "edged", viewers: 50, nsPacket: 900, foreign: 0.5},
		{target: "edged", viewers: 50, nsPacket: 300, foreign: 0.2},
		{target: "edged", viewers: 10, nsPacket: 7, foreign: 0.9},
		{target: "pion", viewers: 50, nsPacket: 5, foreign: 0},
	}
	r := rowOf(all, "edged", 50)
	if len(r.rounds) != 2 || r.dropped != 1 || r.disturbed || r.median(nsPacket) != 200 {
		t.Errorf("%+v", r)
	}
	if r := rowOf(all, "edged", 10); !r.disturbed || r.dropped != 0 || r.median(nsPacket) != 7 {
		t.Errorf("%+v", r)
	}
	if r := rowOf(all, "limit", 50); len(r.rounds) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestCompare(t *testing.T) {
	at := time.Unix(1000, 0)
	a := reading{server: time.Second, viewers: time.Second, self: 0, machine: 10 * time.Second,
		snapshot: bench.Snapshot{Time: at, Viewers: []bench.Counts{{Packets: 100, Lost: 7}, {Packets: 5}}}}
	b := reading{server: 2 * time.Second, viewers: 2 * time.Second, self: time.Second / 2, machine: 14 * time.Second,
		snapshot: bench.Snapshot{Time: at.Add(10 * time.Second), Viewers: []bench.Counts{{Packets: 1100, Lost: 8, Broken: 1}, {Packets: 1005, Skipped: 2}}}}
	var r result
	if err := r.compare(a, b); err != nil {
		t.Fatal(err)
	}
	if r.nsPacket != 500000 || r.packets != 200 || r.cpu != 0.1 || r.foreign != 0.15 || r.lost != 4 {
		t.Errorf("%+v", r)
	}
	if err := r.compare(a, a); err == nil {
		t.Error("no packet, yet a figure")
	}
}

func TestPrintTable(t *testing.T) {
	all := []result{
		{target: "limit", viewers: 50, nsPacket: 1000},
		{target: "pion-bare", viewers: 50, nsPacket: 8000, memory: 300 << 10, joined: []time.Duration{time.Second}, profiles: map[string]int{"AES128_CM_HMAC_SHA1_80": 50}},
		{target: "edged", viewers: 50, nsPacket: 2000, memory: 128 << 10, joined: []time.Duration{20e6, 30e6}, profiles: map[string]int{"AEAD_AES_128_GCM": 50}, lost: 3, foreign: 0.5},
	}
	var out bytes.Buffer
	if err := printTable(&out, all, []int{50}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2000 !", "2.00 ×", "4.00 ×", "128", "AEAD_AES_128_GCM", "never quiet"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	out.Reset()
	if err := printTable(&out, all[:2], []int{50}); err != nil || strings.Contains(out.String(), "never quiet") {
		t.Errorf("%v, a quiet table warns:\n%s", err, out.String())
	}
}

// What is overloaded has a row that says so, and a figure where there is one.
func TestOverloaded(t *testing.T) {
	all := []result{
		{target: "janus", viewers: 50, nsPacket: 20000, cpu: 0.3},
		{target: "janus", viewers: 100, stopped: "87 of 100 viewers have a picture"},
		{target: "edged", viewers: 100, nsPacket: 2000, cpu: 0.1},
	}
	if all[0].overloaded() || !all[1].overloaded() || !(result{cpu: 0.99}).overloaded() {
		t.Error("wrong of who is overloaded")
	}
	var out bytes.Buffer
	if err := printTable(&out, all, []int{50, 100}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"20000", "87 of 100 viewers have a picture", "2000"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestGoals(t *testing.T) {
	all := []result{
		{target: "limit", viewers: 100, nsPacket: 1000},
		{target: "pion-bare", viewers: 100, nsPacket: 8000},
		{target: "edged", viewers: 100, nsPacket: 2000, memory: 100 << 10, live: 90 << 10, delay: 0.002},
	}
	f := figures{join: 50, joinCPU: 3, disturbed: 1, stormDelay: math.NaN(), idle: 20 << 20, camera: 41 << 20}
	holds := map[string]string{}
	for _, g := range goals(all, f) {
		holds[g.what] = fmt.Sprint(g.value, g.holds())
	}
	for what, want := range map[string]string{
		"CPU a packet, 100 viewers, against the bare loop": "2 false",
		"… 100 viewers": "4 false",
		"memory a viewer of 100: growth of the process":    "100 true",
		"frame delay p99, 100 viewers":                     "2 true",
		"missed by 20 viewers while 100 join, 50 a second": "1 false",
		"… with one camera and no viewer":                  "41 false",
		"allocations a frame and viewer":                   "0 true",
	} {
		if holds[what] != want {
			t.Errorf("%s: %s, want %s", what, holds[what], want)
		}
	}
	var out bytes.Buffer
	if err := printGoals(&out, all, f); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"≤ 1.5 ×", "≥ 4.3 ×", "NO", "yes", "not measured"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// One real round of each rival: the programs, the pinning, the protocol
// between them and the accounting.
func TestRound(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+"/", "edged/scripts/bench/baseline", "edged/scripts/bench/limit", "edged/scripts/bench/viewers")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	clip, err := bench.Clip(t.Context(), filepath.Join("..", "..", "..", ".cache", "bench"), 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	s := &setup{bin: bin, clip: clip, work: t.TempDir(), server: -1, client: -1}
	for _, target := range targets[:4] {
		r, err := round(t.Context(), s, target, plan{viewers: 2, rate: 50, steady: time.Second})
		if errors.Is(err, bench.ErrOnlyLoopback) {
			t.Log(err)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", target.name, err)
			continue
		}
		if r.nsPacket <= 0 || r.packets < 100 || len(r.joined) != 2 {
			t.Errorf("%s: %+v", target.name, r)
		}
	}
	if err := run(t.Context(), []string{"-bin", bin, "-clip", clip, "-only", "edged", "-edged", "/no/such", "-rounds", "1"}, io.Discard, io.Discard); err == nil {
		t.Error("a server that does not start has a figure")
	}
}
