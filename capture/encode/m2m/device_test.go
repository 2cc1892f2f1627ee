package m2m

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"edged/capture"
)

// formatFWHT is what vicodec, the kernel's virtual codec, makes of pictures: a
// Walsh–Hadamard transform in place of H.264. Its queues, end of stream and
// times are those of any stateful encoder.
const formatFWHT = 'F' | 'W'<<8 | 'H'<<16 | 'T'<<24

// TestDevice encodes with a real device: EDGED_TEST_M2M, if it is set, says
// that there is a vicodec.
func TestDevice(t *testing.T) {
	if os.Getenv("EDGED_TEST_M2M") == "" {
		t.Skip("EDGED_TEST_M2M does not say that there is a vicodec")
	}
	paths, err := nodes()
	if err != nil || len(paths) == 0 {
		t.Fatalf("devices %q, %v", paths, err)
	}
	if _, err := Open(hd); err == nil {
		t.Error("there is an encoder of H.264")
	} else {
		t.Logf("for H.264: %v", err)
	}
	tiny := Config{Width: 320, Height: 180, FPS: 30, Bitrate: 500_000, KeyframeInterval: 10}
	if _, err := first(paths, openNode, tiny, formatFWHT); capture.CodeOf(err) != capture.CodeEncoder {
		t.Errorf("a picture below the codec's least: %v", err)
	} else {
		t.Logf("for a tiny picture: %v", err)
	}
	// Twice: a device that was not given back would be busy, or out of memory.
	for range 2 {
		encodeOnDevice(t, paths, deviceConfig)
	}
}

// deviceConfig is the least that vicodec takes; 360 is no whole number of
// blocks.
var deviceConfig = Config{Width: 640, Height: 360, FPS: 30, Bitrate: 500_000, KeyframeInterval: 10}

func encodeOnDevice(t *testing.T, paths []string, cfg Config) {
	t.Helper()
	e, err := first(paths, openNode, cfg, formatFWHT)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: planes %v, %s, %d × %d in memory, %d buffers for coded pictures of %d bytes", e.Name(), e.planar, fourCC(e.format), e.stride, e.lines, len(e.coded), len(e.coded[0]))
	var units [][]byte
	begin := time.Now()
	var took time.Duration
	for i := range 10 {
		started := time.Now()
		data, err := e.Encode(picture(cfg, byte(10*i)), begin.Add(time.Duration(i)*33*time.Millisecond))
		took += time.Since(started)
		if err != nil {
			t.Fatalf("picture %d: %v", i, err)
		}
		// Its header (struct fwht_cframe_hdr): magic, then version, width and
		// height of 32 bits each.
		if !bytes.HasPrefix(data, []byte{0x4f, 0x4f, 0x4f, 0x4f, 0xff, 0xff, 0xff, 0xff}) {
			t.Fatalf("picture %d: %d bytes, % x", i, len(data), data[:min(16, len(data))])
		}
		if w, h := be(data[12:]), be(data[16:]); w != uint32(cfg.Width) || h != uint32(cfg.Height) {
			t.Errorf("picture %d: %d × %d", i, w, h)
		}
		units = append(units, bytes.Clone(data))
	}
	if bytes.Equal(units[0], units[1]) {
		t.Error("two pictures gave one unit")
	}
	t.Logf("%v a picture", (took / 10).Round(time.Microsecond))
	still := picture(cfg, 1)
	if n := testing.AllocsPerRun(10, func() {
		if _, err := e.Encode(still, begin.Add(time.Hour)); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a picture", n)
	}
	// The stream ends with the last picture's unit and the mark of the end,
	// which Close waits for.
	if err := e.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func be(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// TestDeviceDrains: pictures that nobody has waited for yet come before the
// end of the stream.
func TestDeviceDrains(t *testing.T) {
	if os.Getenv("EDGED_TEST_M2M") == "" {
		t.Skip("EDGED_TEST_M2M does not say that there is a vicodec")
	}
	paths, err := nodes()
	if err != nil {
		t.Fatal(err)
	}
	e, err := first(paths, openNode, deviceConfig, formatFWHT)
	if err != nil {
		t.Fatal(err)
	}
	e.fill(picture(deviceConfig, 9))
	if err := e.queue(time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := e.node.ioctl(encoderCmd, unsafe.Pointer(&command{cmd: commandStop})); err != nil {
		t.Fatal(err)
	}
	got := 0
	for err = nil; !errors.Is(err, unix.EPIPE); {
		if err := e.node.wait(unix.POLLIN, patience); err != nil {
			t.Fatal(err)
		}
		e.out = e.out[:0]
		if _, err = e.take(); err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
		got += len(e.out)
	}
	if got == 0 {
		t.Error("the picture was not encoded before the end")
	}
	if err := e.release(); err != nil {
		t.Error(err)
	}
}
