package uplink

import (
	"bytes"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// HostSample is the machine and this process, as far as the kernel tells.
type HostSample struct {
	HasCPU         bool
	CPU            time.Duration // counter: processor time of the process
	HasBusy        bool
	Busy, Jiffies  uint64 // counters: busy and all time of all processors, in ticks
	RSS            uint64 // bytes, of the process
	Available      uint64 // bytes of memory that can still be had
	HasTemperature bool
	Temperature    float64 // degrees Celsius, the hottest zone
	HasThrottled   bool
	Throttled      uint64 // the Raspberry Pi firmware's flags
}

// userHz is the unit of times in /proc, 100 on every Linux architecture that
// the kernel's ABI has.
const userHz = 100

// readHost reads what root (the file system at "/") tells. Whatever is
// missing or makes no sense is left out: a machine need not have it.
func readHost(root fs.FS) HostSample {
	var h HostSample
	h.CPU, h.RSS, h.HasCPU = processTimes(root)
	h.Busy, h.Jiffies, h.HasBusy = machineTimes(root)
	h.Available = availableMemory(root)
	h.Temperature, h.HasTemperature = hottest(root)
	if b, err := fs.ReadFile(root, "sys/devices/platform/soc/soc:firmware/get_throttled"); err == nil {
		v, err := strconv.ParseUint(strings.TrimPrefix(string(bytes.TrimSpace(b)), "0x"), 16, 64)
		h.Throttled, h.HasThrottled = v, err == nil
	}
	return h
}

// processTimes reads proc_pid_stat(5): utime and stime are fields 14 and 15.
// The name, field 2, may have spaces and brackets.
func processTimes(root fs.FS) (cpu time.Duration, rss uint64, ok bool) {
	b, err := fs.ReadFile(root, "proc/self/stat")
	if err != nil {
		return 0, 0, false
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 22 {
		return 0, 0, false
	}
	user, err1 := strconv.ParseUint(f[11], 10, 48)
	system, err2 := strconv.ParseUint(f[12], 10, 48)
	if err1 != nil || err2 != nil {
		return 0, 0, false
	}
	return time.Duration(user+system) * (time.Second / userHz), residentMemory(root), true
}

// residentMemory reads VmRSS, which unlike proc_pid_stat's rss does not
// depend on the page size.
func residentMemory(root fs.FS) uint64 { return kilobytes(root, "proc/self/status", "VmRSS:") }

func availableMemory(root fs.FS) uint64 { return kilobytes(root, "proc/meminfo", "MemAvailable:") }

// kilobytes reads a "Name:  123 kB" line, in bytes; 0 if there is none.
func kilobytes(root fs.FS, file, name string) uint64 {
	b, err := fs.ReadFile(root, file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != name {
			continue
		}
		v, err := strconv.ParseUint(f[1], 10, 48)
		if err != nil {
			return 0
		}
		return v << 10
	}
	return 0
}

// machineTimes reads the "cpu" line of proc_stat(5): user nice system idle
// iowait irq softirq steal; guest time is in user already.
func machineTimes(root fs.FS) (busy, all uint64, ok bool) {
	b, err := fs.ReadFile(root, "proc/stat")
	if err != nil {
		return 0, 0, false
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	if len(f) < 5 || f[0] != "cpu" {
		return 0, 0, false
	}
	for i, s := range f[1:min(len(f), 9)] {
		v, err := strconv.ParseUint(s, 10, 56)
		if err != nil {
			return 0, 0, false
		}
		all += v
		if i != 3 && i != 4 { // idle, iowait
			busy += v
		}
	}
	return busy, all, true
}

// hottest reads the thermal zones, in thousandths of a degree.
func hottest(root fs.FS) (celsius float64, ok bool) {
	zones, err := fs.Glob(root, "sys/class/thermal/thermal_zone*/temp")
	if err != nil {
		return 0, false
	}
	for _, zone := range zones {
		b, err := fs.ReadFile(root, zone)
		if err != nil {
			continue // a zone whose sensor is asleep
		}
		milli, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 32)
		if err != nil || milli < -60_000 || milli > 200_000 {
			continue
		}
		if t := float64(milli) / 1000; !ok || t > celsius {
			celsius, ok = t, true
		}
	}
	return celsius, ok
}
