package bench

import (
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const exposition = `# HELP x_seconds What.
# TYPE x_seconds histogram
x_seconds_bucket{le="0.001"} 90
x_seconds_bucket{le="0.002"} 98
x_seconds_bucket{le="0.005"} 100
x_seconds_bucket{le="+Inf"} 100
go_gc_heap_live_bytes 3e+06
go_memstats_stack_inuse_bytes 1e+06
`

func TestScrape(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(exposition))
	}))
	defer s.Close()
	defer http.DefaultClient.CloseIdleConnections()
	m, err := Scrape(t.Context(), s.URL+"/whep/clip")
	if err != nil || m.Live() != 4e6 {
		t.Fatal(m, err)
	}
	for _, c := range []struct{ q, want float64 }{{0.45, 0.0005}, {0.99, 0.0035}, {1, 0.005}} {
		if got := HistogramQuantile(nil, m, "x_seconds", c.q); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("quantile %v: %v, want %v", c.q, got, c.want)
		}
	}
	if got := HistogramQuantile(m, m, "x_seconds", 0.5); !math.IsNaN(got) {
		t.Errorf("%v of nothing", got)
	}
	over := Metrics{`x_seconds_bucket{le="1"}`: 1, `x_seconds_bucket{le="+Inf"}`: 10}
	if got := HistogramQuantile(nil, over, "x_seconds", 0.5); !math.IsInf(got, 1) {
		t.Errorf("%v beyond the last bound", got)
	}
}

func FuzzParseMetrics(f *testing.F) {
	f.Add(exposition)
	f.Add("a b c\n{ 1\n 2\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseMetrics(strings.NewReader(text))
		if err == nil {
			_ = HistogramQuantile(nil, m, "x_seconds", 0.99)
		}
	})
}
