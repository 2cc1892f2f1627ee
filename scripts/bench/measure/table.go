package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"edged/internal/lab/bench"
)

// row is all rounds of one target at one number of viewers.
type row struct {
	rounds    []result // quiet ones, or all where none was quiet
	stopped   string   // why a round has no figure
	dropped   int      // rounds that others disturbed
	disturbed bool     // none was quiet
	memory    float64  // bytes a viewer, whatever others did; 0: not told
}

// quietLimit is how much of a CPU others may use in a round that counts.
const quietLimit = 0.20

// rowOf keeps the rounds of a target in which the machine was its own.
func rowOf(all []result, target string, viewers int) row {
	var r row
	var noisy []result
	for _, x := range all {
		if x.target != target || x.viewers != viewers {
			continue
		}
		if x.stopped != "" {
			r.stopped = x.stopped
			continue
		}
		r.memory = max(r.memory, x.memory)
		switch {
		case x.foreign <= quietLimit:
			r.rounds = append(r.rounds, x)
		default:
			noisy = append(noisy, x)
		}
	}
	r.dropped = len(noisy)
	if len(r.rounds) == 0 && len(noisy) > 0 {
		r.rounds, r.dropped, r.disturbed = noisy, 0, true
	}
	return r
}

func (r row) values(of func(result) float64) []float64 {
	var v []float64
	for _, x := range r.rounds {
		v = append(v, of(x))
	}
	return v
}

func (r row) median(of func(result) float64) float64 { return median(r.values(of)) }

func (r row) joined() (all []time.Duration) {
	for _, x := range r.rounds {
		all = append(all, x.joined...)
	}
	return all
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if len(v) == 0 {
		return 0
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func nsPacket(x result) float64 { return x.nsPacket }

// printTable writes one line a target and number of viewers.
func printTable(w io.Writer, all []result, counts []int) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "viewers\tserver\tCPU ns/packet\tmin–max\ttimes limit\tpion takes\tpion-bare takes\tKiB/viewer\tjoin p50 ms\tp95 ms\tlost\tserver CPU\tforeign CPU\trounds\tSRTP")
	noisy := false
	for _, n := range counts {
		base := func(name string) float64 { return rowOf(all, name, n).median(nsPacket) }
		limit, pion, bare := base("limit"), base("pion"), base("pion-bare")
		for _, target := range targets {
			r := rowOf(all, target.name, n)
			if r.stopped != "" {
				fmt.Fprintf(t, "%d\t%s%s\t%s\n", n, target.name, strings.Repeat("\t–", 12), r.stopped)
			}
			if len(r.rounds) == 0 {
				continue
			}
			noisy = noisy || r.disturbed
			fmt.Fprintln(t, strings.Join(cells(r, target, limit, pion, bare), "\t"))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, target := range targets {
		fmt.Fprintf(w, "%s: %s\n", target.name, target.note)
	}
	fmt.Fprintln(w, "CPU is user and system time of the server's process, one CPU; packets are counted where they arrive.")
	fmt.Fprintf(w, "A server that uses %.0f %% of its CPU, or whose viewers do not all get a picture, is overloaded: more are not tried.\n", 100*fullCPU)
	fmt.Fprintf(w, "Rounds in which other processes used over %.0f %% of a CPU are dropped.\n", 100*quietLimit)
	if noisy {
		fmt.Fprintln(w, "! The machine was never quiet for this row: figures of disturbed rounds, to be read with care.")
	}
	return nil
}

func cells(r row, t target, limit, pion, bare float64) []string {
	v := r.values(nsPacket)
	ns := median(v)
	number := fmt.Sprintf("%.0f", ns)
	if r.disturbed {
		number += " !"
	}
	rounds := fmt.Sprint(len(r.rounds))
	if r.dropped > 0 {
		rounds += fmt.Sprintf(" (%d dropped)", r.dropped)
	}
	var lost uint64
	profiles := map[string]int{}
	for _, x := range r.rounds {
		lost += x.lost
		maps.Copy(profiles, x.profiles)
	}
	p50, p95, memory, missing := "–", "–", "–", "–"
	if !t.bare {
		p50 = milliseconds(bench.Quantile(r.joined(), 0.50))
		p95 = milliseconds(bench.Quantile(r.joined(), 0.95))
		if r.memory > 0 {
			memory = fmt.Sprintf("%.0f", r.memory/1024)
		}
		missing = fmt.Sprint(lost)
	}
	return []string{
		fmt.Sprint(r.rounds[0].viewers), t.name, number, fmt.Sprintf("%.0f–%.0f", slices.Min(v), slices.Max(v)),
		ratio(ns, limit), ratio(pion, ns), ratio(bare, ns), memory, p50, p95, missing,
		fmt.Sprintf("%.2f", r.median(func(x result) float64 { return x.cpu })),
		fmt.Sprintf("%.2f", r.median(func(x result) float64 { return x.foreign })),
		rounds, strings.Join(slices.Sorted(maps.Keys(profiles)), " "),
	}
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d)/1e6) }

func ratio(a, b float64) string {
	if a == 0 || b == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f ×", a/b)
}
