package forward

import (
	"bytes"
	"context"
	"io/fs"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	loadInterval = time.Second
	loadReadings = 5  // what "the last seconds" are, in intervals
	fewFrames    = 50 // fewer say nothing of the hundredth
)

// boxLoad is how busy the box was over the last seconds.
type boxLoad struct {
	mu   sync.Mutex
	cpu  float64
	late time.Duration
}

func (b *boxLoad) value() (cpu float64, late time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cpu, b.late
}

func (b *boxLoad) set(cpu float64, late time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cpu, b.late = cpu, late
}

// watch measures the load until ctx is done; cpu reads the processor's times.
func (s *SFU) watch(ctx context.Context, cpu func(now time.Time) processor) {
	tick := time.NewTicker(loadInterval)
	defer tick.Stop()
	type reading struct {
		cpu   processor
		delay Histogram
	}
	var readings []reading
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := reading{cpu(time.Now()), s.delay.value()}
		if readings = append(readings, now); len(readings) > loadReadings {
			readings = readings[1:]
		}
		s.load.set(now.cpu.since(readings[0].cpu), now.delay.since(readings[0].delay).quantile(.99, fewFrames))
	}
}

// since is what was counted after an earlier value of the same histogram.
func (h Histogram) since(before Histogram) Histogram {
	out := Histogram{Bounds: h.Bounds, Counts: make([]uint64, len(h.Counts)), Sum: h.Sum - before.Sum}
	for i := range out.Counts {
		out.Counts[i] = h.Counts[i] - before.Counts[i]
	}
	return out
}

// quantile is the bound that a share q of what was counted does not exceed;
// beyond all bounds it is twice the last. 0: less than few were counted.
func (h Histogram) quantile(q float64, few uint64) time.Duration {
	total, below := uint64(0), uint64(0)
	for _, n := range h.Counts {
		total += n
	}
	if total < few || total == 0 {
		return 0
	}
	for i, bound := range h.Bounds {
		if below += h.Counts[i]; float64(below) >= q*float64(total) {
			return time.Duration(bound * float64(time.Second))
		}
	}
	return time.Duration(2 * h.Bounds[len(h.Bounds)-1] * float64(time.Second))
}

// host reads what Linux says of the machine and of the control groups (v2)
// that the process is in. What cannot be read is not known, and binds nobody.
type host struct {
	files  fs.FS    // the root directory
	groups []string // folders of the control groups, the innermost first
}

const (
	procStat  = "proc/stat"
	procMem   = "proc/meminfo"
	procGroup = "proc/self/cgroup"
	groupRoot = "sys/fs/cgroup"
)

func newHost(files fs.FS) host {
	h := host{files: files}
	for line := range strings.Lines(h.read(procGroup)) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "0::/"); ok {
			for dir := filepath.Join(groupRoot, p); strings.HasPrefix(dir, groupRoot); dir = filepath.Dir(dir) {
				h.groups = append(h.groups, dir)
			}
		}
	}
	return h
}

// read is a file's text; empty where there is none.
func (h host) read(name string) string {
	b, err := fs.ReadFile(h.files, name)
	if err != nil {
		return ""
	}
	return string(bytes.ToValidUTF8(b, nil))
}

// processor is how much of the processor was used up to a time.
type processor struct {
	at          time.Time
	busy, total float64       // of the machine, in ticks
	used        time.Duration // by the control group that has a quota …
	quota       float64       // … of so many processors; 0: there is none
}

// cpu reads the times of the machine and of the innermost group with a quota.
func (h host) cpu(now time.Time) processor {
	c := processor{at: now}
	first, _, _ := strings.Cut(h.read(procStat), "\n")
	// proc(5): cpu user nice system idle iowait irq softirq steal …
	fields := strings.Fields(first)
	for i := 1; i < min(len(fields), 9) && fields[0] == "cpu"; i++ {
		ticks := count(fields[i])
		c.total += ticks
		if i != 4 && i != 5 {
			c.busy += ticks
		}
	}
	for _, dir := range h.groups {
		quota, period, _ := strings.Cut(strings.TrimSpace(h.read(dir+"/cpu.max")), " ")
		if q, p := count(quota), count(period); q > 0 && p > 0 {
			c.quota = q / p
			c.used = time.Duration(h.key(dir+"/cpu.stat", "usage_usec")) * time.Microsecond
			break
		}
	}
	return c
}

// since is the share in use since an earlier time, 0 to 1: of the machine, or
// of the group's quota where that is more.
func (c processor) since(before processor) float64 {
	share := 0.0
	if total := c.total - before.total; total > 0 {
		share = (c.busy - before.busy) / total
	}
	if d := c.at.Sub(before.at).Seconds(); d > 0 && c.quota > 0 && before.quota > 0 {
		share = max(share, (c.used-before.used).Seconds()/(d*c.quota))
	}
	return min(1, max(0, share))
}

// memory is what the process may still take, in bytes: what the machine has
// available, or less where a group's limit is nearer. Negative: not known.
func (h host) memory() int64 {
	free := int64(-1)
	if kib := h.key(procMem, "MemAvailable:"); kib > 0 {
		free = int64(kib * 1024)
	}
	for _, dir := range h.groups {
		limit := count(strings.TrimSpace(h.read(dir + "/memory.max")))
		if limit <= 0 {
			continue // none, or "max"
		}
		// Cached files that are not in use give way.
		used := count(strings.TrimSpace(h.read(dir+"/memory.current"))) - h.key(dir+"/memory.stat", "inactive_file")
		if left := int64(max(0, limit-used)); free < 0 || left < free {
			free = left
		}
	}
	return free
}

// key is the number behind a key, on a line of its own; 0 where there is none.
func (h host) key(name, key string) float64 {
	for line := range strings.Lines(h.read(name)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == key {
			return count(f[1])
		}
	}
	return 0
}

// count is a number; 0 for what is none.
func count(s string) float64 {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0
	}
	return min(float64(n), math.MaxInt64/4096)
}
