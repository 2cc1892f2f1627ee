package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Metrics is what a box tells of itself at one moment: values by series, a
// metric's name with its labels as they were written.
type Metrics map[string]float64

// Scrape reads the metrics of the box that serves an endpoint.
func Scrape(ctx context.Context, endpoint string) (Metrics, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/metrics"}).String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics: %s", resp.Status)
	}
	return parseMetrics(io.LimitReader(resp.Body, 8<<20))
}

// parseMetrics reads Prometheus's text format, whose lines are a series and a
// value.
func parseMetrics(r io.Reader) (Metrics, error) {
	m := Metrics{}
	in := bufio.NewScanner(r)
	for in.Scan() {
		line := in.Text()
		at := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || at < 0 {
			continue
		}
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: %q: %w", line, err)
		}
		m[line[:at]] = v
	}
	return m, in.Err()
}

// Live is the bytes that the box's program uses: heap that was in use at the
// last garbage collection, and stacks.
func (m Metrics) Live() float64 {
	return m["go_gc_heap_live_bytes"] + m["go_memstats_stack_inuse_bytes"]
}

// HistogramQuantile is the q-quantile (0..1) of what a histogram observed
// between two moments, interpolated in its bucket; NaN of nothing, +Inf beyond
// the last bound.
func HistogramQuantile(before, after Metrics, name string, q float64) float64 {
	type bucket struct{ bound, count float64 }
	var all []bucket
	for series, count := range after {
		label, ok := strings.CutPrefix(series, name+`_bucket{le="`)
		if !ok {
			continue
		}
		if bound, err := strconv.ParseFloat(strings.TrimSuffix(label, `"}`), 64); err == nil {
			all = append(all, bucket{bound, count - before[series]})
		}
	}
	slices.SortFunc(all, func(a, b bucket) int {
		if a.bound < b.bound {
			return -1
		}
		return 1
	})
	if len(all) == 0 || all[len(all)-1].count <= 0 {
		return math.NaN()
	}
	want := q * all[len(all)-1].count
	var low bucket
	for _, b := range all {
		if b.count >= want && b.count > low.count {
			if math.IsInf(b.bound, 1) {
				return b.bound
			}
			return low.bound + (b.bound-low.bound)*(want-low.count)/(b.count-low.count)
		}
		low = b
	}
	return math.Inf(1)
}
