package metrics

import (
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"edged/capture"
	"edged/forward"
	"edged/internal/signaling"
	"edged/turn"
	"edged/uplink"
)

var update = flag.Bool("update", false, "write the golden file anew")

// full is a snapshot in which every row of the table has a value.
func full() Snapshot {
	return Snapshot{
		Version: "1.2.3",
		Cameras: []capture.State{
			{
				ID: "dock", Phase: capture.Live,
				Tracks:    []capture.Track{{Kind: capture.Video}, {Kind: capture.Video, Layer: 1}, {Kind: capture.Audio}},
				Frames:    []uint64{900, 450, 1500},
				Bitrate:   []float64{2.5e6, 3e5, 32000},
				Restarts:  map[capture.Code]uint64{capture.CodeStalled: 2, capture.CodeRefused: 1},
				Keyframes: 7,
				Input:     capture.Input{Mode: "YUYV 640 × 480", Lost: 5, Damaged: 1},
			},
			{ID: "gate", Phase: capture.Offline, Tracks: []capture.Track{{Kind: capture.Video}}}, // no frame yet
		},
		SFU: forward.Stats{
			Packets: 100_000, Bytes: 110_000_000, NACKs: 12, RTX: 11, FEC: 21, PLIs: 3, Ignored: 14,
			Dropped:     map[string]uint64{"behind": 4, "socket": 5},
			Data:        map[string]uint64{"meta": 600, "events": 9},
			DataDropped: map[string]uint64{"thinned": 30, "behind": 2},
			DataCuts:    1,
			Joins:       map[string]uint64{"dock\x00ok": 3, "dock\x00codec": 1, "gate\x00offline": 2},
			Refused:     map[string]uint64{"viewers": 2, "bitrate": 1},
			JoinSeconds: forward.Histogram{Bounds: []float64{.1, 1}, Counts: []uint64{2, 1, 1}, Sum: 3.5},
			FrameDelay:  forward.Histogram{Bounds: []float64{.001, .01}, Counts: []uint64{800, 90, 10}, Sum: 1.25},
			Streams: []forward.StreamStats{
				{ID: "dock", Viewers: []forward.ViewerStats{{ID: "secret-viewer", Subject: "alice", Remote: "192.0.2.7:4000", Group: forward.Poor}, {}},
					Workers: []forward.WorkerStats{{Viewers: 1, Packets: 300, Busy: .125}, {Viewers: 1, Packets: 200, Busy: .25}}},
				{ID: "gate"},
			},
		},
		Signaling: signaling.Stats{
			Active:    map[string]int{"websocket": 2, "http": 0, "whep": 1},
			Handshake: forward.Histogram{Bounds: []float64{.01}, Counts: []uint64{3, 1}, Sum: .75},
			Messages:  map[string]uint64{"view.open\x00ok": 3, "whep.post\x00422": 1},
		},
		TURN:           turn.Stats{Allocations: 2, RelayedIn: 1000, RelayedOut: 50_000, AuthFailures: 3, DeniedPeers: 4},
		Uplink:         uplink.Stats{Connected: true, OutboxRecords: 2, OutboxBytes: 900, Published: map[string]uint64{"presence": 1, "stats": 20}},
		ConfigRevision: 42,
		ConfigApplies:  map[string]uint64{"ok": 5, "invalid": 1},
		StorageCommits: 17,
		StorageBytes:   65536,
	}
}

func TestGolden(t *testing.T) {
	var own strings.Builder
	for line := range strings.Lines(scrape(t, full)) {
		if strings.Contains(line, Prefix) {
			own.WriteString(line)
		}
	}
	golden := filepath.Join("testdata", "metrics.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(own.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if own.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", &own, want)
	}
}

func TestLint(t *testing.T) {
	r := prometheus.NewPedanticRegistry() // also checks that rows fit their descriptions
	r.MustRegister(newCollector(full))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != len(table) {
		t.Errorf("%d families of %d rows", len(families), len(table))
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if p.Metric == Prefix+"camera_bitrate_bits" && strings.Contains(p.Text, "base unit") {
			continue // the field's unit of a bitrate, here as in the configuration
		}
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestEveryRowHasAValue(t *testing.T) {
	body := scrape(t, full)
	for _, m := range Table() {
		suffix := " "
		switch {
		case m.Type == "histogram":
			suffix = "_count "
		case len(m.Labels) > 0:
			suffix = "{" + m.Labels[0] + `="`
		}
		if !strings.Contains(body, "\n"+m.Name+suffix) {
			t.Errorf("%s is not served", m.Name)
		}
		if m.Help == "" || (m.Type == "counter") != strings.HasSuffix(m.Name, "_total") {
			t.Errorf("%s is a %s, help %q", m.Name, m.Type, m.Help)
		}
	}
	for _, name := range []string{"go_goroutines ", "process_resident_memory_bytes ", "process_cpu_seconds_total "} {
		if !strings.Contains(body, "\n"+name) {
			t.Errorf("%s is not served", name)
		}
	}
}

func scrape(t *testing.T, read func() Snapshot) string {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(read).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestNoViewerInALabel(t *testing.T) {
	body := scrape(t, full)
	for _, private := range []string{"secret-viewer", "alice", "192.0.2.7"} {
		if strings.Contains(body, private) {
			t.Errorf("%s is served", private)
		}
	}
	for _, m := range Table() {
		for _, l := range m.Labels {
			switch l {
			case "version", "camera", "layer", "reason", "result", "transport", "method", "direction", "kind", "group", "worker":
			default:
				t.Errorf("%s has a label %q", m.Name, l)
			}
		}
	}
}

func TestEmptySnapshot(t *testing.T) {
	body := scrape(t, func() Snapshot { return Snapshot{} })
	for _, line := range []string{"edged_uplink_connected 0", "edged_turn_allocations 0", "edged_viewer_join_seconds_count 0"} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
}

// Values that should not be there spoil themselves at most.
func TestOddSnapshots(t *testing.T) {
	s := full()
	s.Cameras = append(s.Cameras, s.Cameras[0])   // twice the same
	s.Cameras[0].Frames = s.Cameras[0].Frames[:1] // fewer than tracks
	s.SFU.Joins["no separator"] = 1
	s.SFU.Dropped["\xff"] = 1                                                                        // not UTF-8
	s.SFU.JoinSeconds.Counts = s.SFU.JoinSeconds.Counts[:2]                                          // one short
	s.SFU.FrameDelay = forward.Histogram{Bounds: []float64{1, 1}, Counts: []uint64{1, 1, 1}, Sum: 3} // a bound twice
	body := scrape(t, func() Snapshot { return s })
	for _, line := range []string{
		`edged_camera_frames_total{camera="dock",layer="0"} 1800`,
		`edged_camera_up{camera="dock"} 2`,
		"edged_viewer_join_seconds_count 0",
		"edged_storage_bytes 65536",
	} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
}

func TestScrapesAtOnce(t *testing.T) {
	srv := httptest.NewServer(Handler(full))
	defer srv.Close()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			res, err := srv.Client().Get(srv.URL)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
				t.Errorf("status %d, %v", res.StatusCode, err)
			}
		})
	}
	wg.Wait()
}
