package uplink

import (
	"os"
	"testing"
	"testing/fstest"
	"time"
)

func TestReadHost(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	full := fstest.MapFS{
		"proc/self/stat":                                      file("1234 (a) b (c) S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 1000 25 184467"),
		"proc/self/status":                                    file("Name:\tedged\nVmRSS:\t   20480 kB\nVmSwap:\t0 kB\n"),
		"proc/stat":                                           file("cpu  100 1 50 800 30 2 3 4 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n"),
		"proc/meminfo":                                        file("MemTotal: 1000 kB\nMemAvailable:  500 kB\n"),
		"sys/class/thermal/thermal_zone0/temp":                file("48312\n"),
		"sys/class/thermal/thermal_zone1/temp":                file("61000\n"),
		"sys/class/thermal/thermal_zone2/temp":                file("-274000\n"), // a sensor that is off
		"sys/devices/platform/soc/soc:firmware/get_throttled": file("50005\n"),
	}
	want := HostSample{
		HasCPU: true, CPU: 3 * time.Second, HasBusy: true, Busy: 160, Jiffies: 990,
		RSS: 20 << 20, Available: 500 << 10, HasTemperature: true, Temperature: 61,
		HasThrottled: true, Throttled: 0x50005,
	}
	if got := readHost(full); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := readHost(fstest.MapFS{}); got != (HostSample{}) {
		t.Errorf("an empty machine: %+v", got)
	}
	for name := range full {
		for _, garbage := range []string{"", "x", "cpu x y z u v", "1 (a S 1", "MemAvailable: -1 kB", "VmRSS:"} {
			bad := fstest.MapFS{}
			for n, f := range full {
				bad[n] = f
			}
			bad[name] = file(garbage)
			readHost(bad) // must not panic
		}
	}
}

func TestReadThisHost(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here")
	}
	h := readHost(os.DirFS("/"))
	if !h.HasCPU || !h.HasBusy || h.RSS == 0 || h.Available == 0 {
		t.Errorf("%+v", h)
	}
}

func FuzzReadHost(f *testing.F) {
	f.Add("1 (a) S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 1000 25", "cpu 1 2 3 4", "61000")
	f.Fuzz(func(t *testing.T, self, machine, zone string) {
		readHost(fstest.MapFS{
			"proc/self/stat": {Data: []byte(self)}, "proc/stat": {Data: []byte(machine)},
			"sys/class/thermal/thermal_zone0/temp":                {Data: []byte(zone)},
			"sys/devices/platform/soc/soc:firmware/get_throttled": {Data: []byte(zone)},
		})
	})
}
