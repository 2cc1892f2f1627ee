// Package metrics serves what the parts of the box count, as Prometheus text.
// The table in table.go is the whole of it: a name, what it means, and how to
// read it from the parts' own statistics.
package metrics

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"edged/capture"
	"edged/forward"
	"edged/internal/signaling"
	"edged/turn"
	"edged/uplink"
)

// Prefix is what the name of every metric of the box begins with; those of
// the Go runtime and of the process have their usual names.
const Prefix = "edged_"

// Snapshot is the box at one moment. Counters only rise.
type Snapshot struct {
	Version        string
	Cameras        []capture.State
	SFU            forward.Stats
	Signaling      signaling.Stats
	TURN           turn.Stats
	Uplink         uplink.Stats
	ConfigRevision uint64
	ConfigApplies  map[string]uint64 // by result
	StorageCommits uint64
	StorageBytes   int64
}

// Metric describes a row of the table, for documents.
type Metric struct {
	Name   string // with the prefix
	Type   string // counter, gauge, histogram
	Labels []string
	Help   string
}

// Table lists every metric of the box in the order of the table.
func Table() []Metric {
	out := make([]Metric, len(table))
	for i, r := range table {
		out[i] = Metric{Name: Prefix + r.name, Type: string(r.kind), Labels: slices.Clone(r.labels), Help: r.help}
	}
	return out
}

var liveHeap = regexp.MustCompile(`^/gc/heap/live:bytes$`)

// Handler serves the metrics; read is called for each scrape, by several
// goroutines at once, and must return promptly. Access is the caller's
// matter.
func Handler(read func() Snapshot) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(
		newCollector(read),
		// The live heap besides: it is flat where nothing leaks, as the heap's saw is not.
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{Matcher: liveHeap})),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError, // one bad value must not hide the others
		MaxRequestsInFlight: 4,
	})
}

// collector implements prometheus.Collector over the table.
type collector struct {
	read  func() Snapshot
	descs []*prometheus.Desc // by row
}

func newCollector(read func() Snapshot) *collector {
	c := &collector{read: read}
	for _, r := range table {
		c.descs = append(c.descs, prometheus.NewDesc(Prefix+r.name, r.help, r.labels, nil))
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.read()
	for i, r := range table {
		if r.histogram != nil {
			ch <- constHistogram(c.descs[i], r.histogram(&s))
			continue
		}
		for _, v := range r.collect(&s) {
			m, err := prometheus.NewConstMetric(c.descs[i], r.kind.value(), v.value, v.labels...)
			if err != nil {
				m = prometheus.NewInvalidMetric(c.descs[i], fmt.Errorf("%s: %w", r.name, err))
			}
			ch <- m
		}
	}
}

// series is one value of a row.
type series struct {
	labels []string
	value  float64
}

// collect reads a row. Values with the same labels are added up, since a
// repeated series would spoil the whole scrape.
func (r row) collect(s *Snapshot) []series {
	var out []series
	at := map[string]int{}
	r.read(s, func(value float64, labels ...string) {
		key := strings.Join(labels, "\x00")
		i, ok := at[key]
		if !ok {
			i = len(out)
			at[key] = i
			out = append(out, series{labels: labels})
		}
		out[i].value += value
	})
	return out
}

// constHistogram takes counts by bucket; a histogram whose counts do not fit
// its bounds is shown as empty.
func constHistogram(d *prometheus.Desc, h forward.Histogram) prometheus.Metric {
	buckets := make(map[float64]uint64, len(h.Bounds))
	total, sum := uint64(0), h.Sum
	if len(h.Counts) != len(h.Bounds)+1 {
		h, sum = forward.Histogram{}, 0
	}
	for i, n := range h.Counts {
		total += n
		if i < len(h.Bounds) {
			buckets[h.Bounds[i]] = total
		}
	}
	m, err := prometheus.NewConstHistogram(d, total, sum, buckets)
	if err != nil {
		return prometheus.NewInvalidMetric(d, err)
	}
	return m
}
