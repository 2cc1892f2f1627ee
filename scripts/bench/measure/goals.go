package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
)

// goal is a figure that the project has promised.
type goal struct {
	what  string
	unit  string
	least bool // the bound is the least that will do, not the most
	bound float64
	value float64 // NaN: not measured
}

func (g goal) holds() bool {
	if g.least {
		return g.value >= g.bound
	}
	return g.value <= g.bound
}

// printGoals writes each target, its figure and whether it holds.
func printGoals(w io.Writer, all []result, f figures) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\ntarget\tbound\tmeasured\tholds")
	for _, g := range goals(all, f) {
		sign, holds := "≤", "yes"
		if g.least {
			sign = "≥"
		}
		measured := fmt.Sprintf("%.2f%s", g.value, g.unit)
		switch {
		case math.IsNaN(g.value):
			measured, holds = "–", "not measured"
		case !g.holds():
			holds = "NO"
		}
		fmt.Fprintf(t, "%s\t%s %g%s\t%s\t%s\n", g.what, sign, g.bound, g.unit, measured, holds)
	}
	return t.Flush()
}

func goals(all []result, f figures) []goal {
	ns := func(target string, n int) float64 {
		if r := rowOf(all, target, n); len(r.rounds) > 0 {
			return r.median(nsPacket)
		}
		return math.NaN()
	}
	edged := func(n int, of func(result) float64) float64 {
		if r := rowOf(all, "edged", n); len(r.rounds) > 0 {
			return r.median(of)
		}
		return math.NaN()
	}
	memory, live := math.NaN(), math.NaN()
	for _, x := range all {
		if x.target == "edged" && x.viewers == 100 && x.memory > 0 {
			memory, live = x.memory/1024, x.live/1024
		}
	}
	const mib, ms = 1 << 20, 1e3
	return []goal{
		{"CPU a packet, 100 viewers, against the bare loop", " ×", false, 1.5, ns("edged", 100) / ns("limit", 100)},
		{"plain pion without interceptors against edged, 10 viewers", " ×", true, 2.2, ns("pion-bare", 10) / ns("edged", 10)},
		{"… 100 viewers", " ×", true, 4.3, ns("pion-bare", 100) / ns("edged", 100)},
		{"… 200 viewers", " ×", true, 4.3, ns("pion-bare", 200) / ns("edged", 200)},
		{"CPU a packet, 200 viewers against 50", " ×", false, 1.2, ns("edged", 200) / ns("edged", 50)},
		{"memory a viewer of 100: growth of the process", " KiB", false, 128, memory},
		{"… live heap and stacks", " KiB", false, 128, live},
		{"allocations a frame and viewer", "", false, 0, f.allocations},
		{"join p95, keyframes every 10 s, none on request", " ms", false, 100, f.join},
		{"CPU a join, ICE and DTLS", " ms", false, 4, f.joinCPU},
		{"missed by 20 viewers while 100 join, 50 a second", "", false, 0, f.disturbed},
		{"frame delay p99 meanwhile", " ms", false, 5, f.stormDelay * ms},
		{"frame delay p99, 100 viewers", " ms", false, 5, edged(100, func(r result) float64 { return r.delay }) * ms},
		{"resident memory without a camera", " MiB", false, 25, f.idle / mib},
		{"… with one camera and no viewer", " MiB", false, 40, f.camera / mib},
		{"capture to display in Chromium, p50", " ms", false, 100, f.glass},
	}
}
