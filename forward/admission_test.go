package forward

import (
	"context"
	"log/slog"
	"math"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
)

func TestAdmits(t *testing.T) {
	all := Config{MaxViewers: 64, MaxCPU: 90, MinMemory: 32 << 20, MaxBitrate: 10e6}
	quiet := occupancy{viewers: 10, cpu: .3, late: 2 * time.Millisecond, memory: 1 << 30, sending: 5e6, wants: 1e6}
	for _, tt := range []struct {
		name   string
		cfg    Config
		change func(*occupancy)
		bound  string
		detail string
	}{
		{"a quiet box", all, func(*occupancy) {}, "", ""},
		{"the last place", all, func(o *occupancy) { o.viewers = 63 }, "", ""},
		{"no place", all, func(o *occupancy) { o.viewers = 64 }, "viewers", "64 viewers of at most 64"},
		{"busy, but frames are on time", all, func(o *occupancy) { o.cpu = 1 }, "", ""},
		{"late, but not for the CPU", all, func(o *occupancy) { o.late = time.Second }, "", ""},
		{"busy and late", all, func(o *occupancy) { o.cpu, o.late = .97, 250*time.Millisecond }, "cpu", "97 % of the CPU in use and frames up to 250ms late, at most 90 %"},
		{"as busy as may be", all, func(o *occupancy) { o.cpu, o.late = .9, lateLimit }, "", ""},
		{"busy, late and no bound", Config{MaxViewers: 64}, func(o *occupancy) { o.cpu, o.late = 1, time.Second }, "", ""},
		{"just enough memory", all, func(o *occupancy) { o.memory = 32 << 20 }, "", ""},
		{"too little memory", all, func(o *occupancy) { o.memory = 32<<20 - 1 }, "memory", "32.0 MiB are kept free"},
		{"no memory", all, func(o *occupancy) { o.memory = 0 }, "memory", "0.0 MiB of memory available"},
		{"memory not known", all, func(o *occupancy) { o.memory = -1 }, "", ""},
		{"little memory and no bound", Config{MaxViewers: 64}, func(o *occupancy) { o.memory = 0 }, "", ""},
		{"the uplink just takes it", all, func(o *occupancy) { o.sending = 9e6 }, "", ""},
		{"the uplink does not take it", all, func(o *occupancy) { o.sending = 9.1e6 }, "bitrate", "9.10 Mbit/s sent and 1.00 Mbit/s more needed, of at most 10.00 Mbit/s"},
		{"an uplink without bound", Config{MaxViewers: 64}, func(o *occupancy) { o.sending = 1e12 }, "", ""},
	} {
		o := quiet
		tt.change(&o)
		full := tt.cfg.admits(o)
		switch {
		case full == nil && tt.bound == "":
		case full == nil || full.Bound != tt.bound || !strings.Contains(full.Detail, tt.detail):
			t.Errorf("%s: %+v, want %q", tt.name, full, tt.bound)
		}
	}
}

func TestRefusedViewersComeBackApart(t *testing.T) {
	var c crowd
	now := testTime
	if d := c.refuse(now, .5); d != retryLeast || !c.first() {
		t.Errorf("the first waits %v, %v", d, c.first())
	}
	last := time.Duration(0)
	for range 20 {
		d := c.refuse(now, .5)
		if d <= last {
			t.Errorf("%v after %v: it does not grow", d, last)
		}
		last = d
	}
	for range 1000 {
		last = c.refuse(now, .5)
	}
	if last != retryMost {
		t.Errorf("a crowd waits %v", last)
	}
	if lo, hi := c.refuse(now, 0), c.refuse(now, .999); lo != retryMost*3/4 || hi < retryMost*6/5 {
		t.Errorf("%v to %v: not spread", lo, hi)
	}
	if c.first() {
		t.Error("one of a thousand is the first")
	}
	if d := c.refuse(now.Add(time.Hour), .5); d > retryLeast+time.Millisecond || !c.first() {
		t.Errorf("an hour later: %v", d)
	}
}

func TestBudgetHoldsLayersDown(t *testing.T) {
	v, _ := bareViewer(t)
	rings := layers(2)
	fillLayers(rings, 0, 60, func(_, i int) bool { return i == 0 })
	rings[0].rate.bits, rings[1].rate.bits = 1e6, .2e6
	v.sfu.budget.most = 3e6
	now := testTime.Add(60 * 33 * time.Millisecond)
	viewers := make([]*Viewer, 5)
	for i := range viewers {
		viewers[i] = &Viewer{link: link{sfu: v.sfu}, stream: v.stream, quality: Auto}
		viewers[i].lanes = []*lane{newLane(rings, 90000, videoFormat, now)}
		viewers[i].bookLowest()
	}
	round := func() (layers []int) {
		for _, v := range viewers {
			v.chooseLayers(now)
			layers = append(layers, v.lanes[0].want)
		}
		if b := v.sfu.budget.inUse(); b > v.sfu.budget.most {
			t.Errorf("%.0f bits/s booked of %.0f", b, v.sfu.budget.most)
		}
		return layers
	}
	expect := func(what string, got []int, high int) {
		t.Helper()
		n := 0
		for _, l := range got {
			if l == 0 {
				n++
			}
		}
		if n != high {
			t.Errorf("%s: layers %v, want %d high", what, got, high)
		}
	}
	round()
	expect("five at once", round(), 2) // 2 × 1.05 + 3 × .21 Mbit/s; a third would make 3.57
	rings[0].rate.bits = 1.3e6
	round()
	if v := viewers[0]; v.lanes[0].want != 1 || v.lanes[0].why != "uplink" {
		t.Errorf("layer %d because of %q", v.lanes[0].want, v.lanes[0].why)
	}
	expect("the camera delivers more", round(), 1)
	rings[0].rate.bits = 1e6
	for range 4 {
		round()
		now = now.Add(upAfter)
		for _, r := range rings {
			r.rate.arrived = now
		}
	}
	expect("it delivers less again", round(), 2)
	viewers[0].quality = Off
	viewers[0].bookLayers()
	reason := "gone"
	viewers[1].reason.Store(&reason)
	viewers[1].bookLayers()
	viewers[2].quality = High
	if viewers = viewers[2:]; viewers[0].least() != .2e6*wireShare {
		t.Errorf("at the least %.0f", viewers[0].least())
	}
	for range 4 {
		round()
		now = now.Add(upAfter)
		for _, r := range rings {
			r.rate.arrived = now
		}
	}
	expect("two have left", round(), 2)
	for _, v := range viewers {
		v.reason.Store(&reason)
		v.bookLayers()
	}
	if b := v.sfu.budget.inUse(); math.Abs(b) > 1 {
		t.Errorf("%.0f bits/s booked by nobody", b)
	}
}

func TestQuantile(t *testing.T) {
	h := newHistogram(.01, .05, .1)
	before := h.value()
	if d := before.quantile(.99, 1); d != 0 {
		t.Errorf("nothing counted: %v", d)
	}
	for range 99 {
		h.observe(time.Millisecond)
	}
	h.observe(time.Second)
	for q, want := range map[float64]time.Duration{.5: 10 * time.Millisecond, .99: 10 * time.Millisecond, .995: 200 * time.Millisecond} {
		if d := h.value().since(before).quantile(q, 50); d != want {
			t.Errorf("%v: %v, want %v", q, d, want)
		}
	}
	if d := h.value().since(h.value()).quantile(.99, 50); d != 0 {
		t.Errorf("nothing since: %v", d)
	}
	if d := h.value().quantile(.99, 101); d != 0 {
		t.Errorf("few: %v", d)
	}
}

func text(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

const (
	someStat = "cpu  100 10 30 800 50 5 5 0 0 0\ncpu0 1 2 3 4\nintr 5\n"
	someMem  = "MemTotal: 1000000 kB\nMemFree: 1 kB\nMemAvailable:     500000 kB\n"
)

func TestHost(t *testing.T) {
	files := fstest.MapFS{procStat: text(someStat), procMem: text(someMem), procGroup: text("3:cpu:/old\n0::/system.slice/edged.service\n")}
	h := newHost(files)
	if len(h.groups) != 3 || h.groups[0] != "sys/fs/cgroup/system.slice/edged.service" || h.groups[2] != "sys/fs/cgroup" {
		t.Fatalf("groups %v", h.groups)
	}
	before := h.cpu(testTime)
	if h.memory() != 500000<<10 || before.quota != 0 || before.busy != 150 || before.total != 1000 {
		t.Errorf("%d bytes, %+v", h.memory(), before)
	}
	files[procStat] = text("cpu  160 10 30 820 60 5 5 10 7 7\n")
	if share := h.cpu(testTime.Add(time.Second)).since(before); math.Abs(share-.7) > 1e-9 {
		t.Errorf("share %v", share)
	}
	// limits of groups: the process's own has a quota, one above has less memory
	const own, slice = "sys/fs/cgroup/system.slice/edged.service/", "sys/fs/cgroup/system.slice/"
	files[own+"cpu.max"], files[own+"cpu.stat"] = text("150000 100000\n"), text("usage_usec 1000000\nuser_usec 5\n")
	files[own+"memory.max"] = text("max\n")
	files[slice+"cpu.max"] = text("max 100000\n")
	files[slice+"memory.max"], files[slice+"memory.current"], files[slice+"memory.stat"] = text("100000000\n"), text("90000000\n"), text("anon 1\ninactive_file 5000000\n")
	before = h.cpu(testTime)
	if h.memory() != 15000000 || before.quota != 1.5 {
		t.Errorf("%d bytes, %+v", h.memory(), before)
	}
	files[own+"cpu.stat"] = text("usage_usec 3700000\n")
	if share := h.cpu(testTime.Add(2 * time.Second)).since(before); math.Abs(share-.9) > 1e-9 {
		t.Errorf("share of the quota %v", share)
	}
	files[slice+"memory.current"] = text("200000000\n")
	if h.memory() != 0 {
		t.Errorf("over the limit: %d bytes", h.memory())
	}
	if none := newHost(fstest.MapFS{}); none.memory() != -1 || none.cpu(testTime).since(none.cpu(testTime)) != 0 {
		t.Error("nothing can be read, and something is known")
	}
	if here := newHost(os.DirFS("/")); here.memory() <= 0 || here.cpu(testTime).total == 0 {
		t.Errorf("this machine: %d bytes, %+v", here.memory(), here.cpu(testTime))
	}
}

func FuzzHost(f *testing.F) {
	f.Add(someStat, someMem, "0::/a/b\n", "150000 100000\n", "usage_usec 10\n", "100\n")
	f.Add("cpu", "MemAvailable: -1 kB", "0::/../../..", "max 0", "usage_usec", "max")
	f.Add("cpu 99999999999999999999 1", "MemAvailable: 9223372036854775807 kB", "0::/", "1 1", "usage_usec 9223372036854775807", "9223372036854775807")
	f.Fuzz(func(t *testing.T, stat, mem, group, quota, usage, limit string) {
		files := fstest.MapFS{procStat: text(stat), procMem: text(mem), procGroup: text(group)}
		h := newHost(files)
		for _, dir := range h.groups {
			if !strings.HasPrefix(dir, groupRoot) {
				t.Fatalf("group %q", dir)
			}
		}
		files[groupRoot+"/cpu.max"], files[groupRoot+"/cpu.stat"], files[groupRoot+"/memory.max"] = text(quota), text(usage), text(limit)
		if n := h.memory(); n < -1 {
			t.Errorf("%d bytes", n)
		}
		before, after := h.cpu(testTime), h.cpu(testTime.Add(time.Second))
		if s := after.since(before); !(s >= 0 && s <= 1) {
			t.Errorf("share %v", s)
		}
	})
}

// The load is that of the last seconds, and passes.
func TestLoadIsOfTheLastSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var busy, total atomic.Int64
		cpu := func(time.Time) processor { return processor{busy: float64(busy.Load()), total: float64(total.Load())} }
		s := &SFU{log: slog.New(slog.DiscardHandler), delay: newHistogram(.01, .05, .1)}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.watch(ctx, cpu); close(ended) }()
		time.Sleep(loadInterval + 1)
		synctest.Wait()
		busy.Store(95)
		total.Store(100)
		for range 100 {
			s.delay.observe(80 * time.Millisecond)
		}
		time.Sleep(loadInterval)
		synctest.Wait()
		if cpu, late := s.load.value(); cpu != .95 || late != 100*time.Millisecond {
			t.Errorf("%v, %v", cpu, late)
		}
		time.Sleep(loadReadings * loadInterval)
		synctest.Wait()
		if cpu, late := s.load.value(); cpu != 0 || late != 0 {
			t.Errorf("long after: %v, %v", cpu, late)
		}
		cancel()
		<-ended
	})
}
