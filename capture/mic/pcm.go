package mic

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pcm is one capture device of ALSA, driven by the kernel's own interface
// (include/uapi/sound/asound.h): nothing is loaded into the process, and the
// binary stays static.
type pcm struct {
	fd int
	mode
	buffer int // frames that the kernel keeps

	poll  [1]unix.PollFd
	xfer  transfer
	delay clong
}

// mode is what a device was set to.
type mode struct {
	rate     int // Hz
	channels int
	format   format
}

func (m mode) String() string {
	return fmt.Sprintf("%s, %d Hz, %d channels", m.format.name, m.rate, m.channels)
}

// frameBytes is a sample of every channel.
func (m mode) frameBytes() int { return m.channels * m.format.bytes }

// format is how a sample lies in memory.
type format struct {
	name  string
	code  uint32 // SNDRV_PCM_FORMAT_…
	bytes int
}

// The formats and rates that are taken, best first. Each rate has a simple
// ratio to 48 kHz.
var (
	formats = []format{{"S16_LE", 2, 2}, {"S32_LE", 10, 4}, {"S24_3LE", 32, 3}}
	rates   = []int{48000, 96000, 44100, 32000, 24000, 22050, 16000, 11025, 8000}
)

type (
	clong  = int  // long is as wide as a word on all that Linux runs on
	culong = uint // unsigned long
)

// interval is struct snd_interval.
type interval struct{ min, max, flags uint32 }

// hwParams is struct snd_pcm_hw_params: what is still possible, until it is
// set.
type hwParams struct {
	_         uint32       // flags
	masks     [3][8]uint32 // access, format, subformat
	_         [5][8]uint32 //
	intervals [12]interval //
	_         [9]interval  //
	rmask     uint32       // which of them to look at
	_         uint32       // cmask
	info      uint32       //
	_         [3]uint32    // msbits, rate_num, rate_den
	_         culong       // fifo_size
	_         [64]byte     //
}

// Indices of hwParams.intervals.
const (
	ofChannels = 2
	ofRate     = 3
	ofPeriod   = 5
	ofBuffer   = 9
)

const (
	interleaved = 3 // SNDRV_PCM_ACCESS_RW_INTERLEAVED
	integer     = 4 // of interval.flags
)

// swParams is struct snd_pcm_sw_params.
type swParams struct {
	stampMode, periodStep, _       uint32
	availMin, align, start, stop   culong
	silence, silenceSize, boundary culong
	_, _                           uint32 // proto, tstamp_type
	_                              [56]byte
}

// transfer is struct snd_xferi.
type transfer struct {
	result clong
	buf    unsafe.Pointer
	frames culong
}

// request makes an ioctl number as the generic _IOC does.
func request(dir, nr, size uintptr) uintptr { return dir<<30 | size<<16 | 'A'<<8 | nr }

const (
	plain  = 0
	writes = 1
	reads  = 2
)

var (
	pcmRefine   = request(reads|writes, 0x10, unsafe.Sizeof(hwParams{}))
	pcmHwParams = request(reads|writes, 0x11, unsafe.Sizeof(hwParams{}))
	pcmSwParams = request(reads|writes, 0x13, unsafe.Sizeof(swParams{}))
	pcmDelay    = request(reads, 0x21, unsafe.Sizeof(clong(0)))
	pcmPrepare  = request(plain, 0x40, 0)
	pcmStart    = request(plain, 0x42, 0)
	pcmRead     = request(reads, 0x51, unsafe.Sizeof(transfer{}))
)

func (p *pcm) ioctl(req uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(p.fd), req, uintptr(arg))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return errno
		}
		return nil
	}
}

// openPCM opens a device node, sets the best mode that it has and starts it.
func openPCM(path string) (*pcm, error) {
	p := &pcm{}
	if err := p.open(path); err != nil {
		return nil, err
	}
	err := p.negotiate()
	if err == nil {
		err = p.restart()
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// open does not wait for a device that somebody else has: EBUSY.
func (p *pcm) open(path string) (err error) {
	p.fd, err = unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	p.poll[0] = unix.PollFd{Fd: int32(p.fd), Events: unix.POLLIN}
	return err
}

func (p *pcm) close() error { return unix.Close(p.fd) }

// anything is every possibility, of samples in a format.
func anything(f format) *hwParams {
	h := &hwParams{rmask: ^uint32(0), info: ^uint32(0)}
	h.masks[0][0] = 1 << interleaved
	h.masks[1][f.code/32] = 1 << (f.code % 32)
	h.masks[2][0] = 1 // standard
	for i := range h.intervals {
		h.intervals[i].max = ^uint32(0)
	}
	return h
}

// refine narrows an interval; h stays as it was where the device cannot.
func (p *pcm) refine(h *hwParams, which int, least, most uint32) bool {
	next := *h
	next.intervals[which] = interval{min: least, max: most, flags: integer}
	next.rmask = ^uint32(0)
	if p.ioctl(pcmRefine, unsafe.Pointer(&next)) != nil {
		return false
	}
	*h = next
	return true
}

// negotiate sets the first format that the device has, the best rate, two
// channels or as near to that as it goes, and a buffer of a tenth of a second
// to a second.
func (p *pcm) negotiate() error {
	for _, f := range formats {
		h := anything(f)
		if err := p.ioctl(pcmRefine, unsafe.Pointer(h)); errors.Is(err, unix.EINVAL) {
			continue // not this format
		} else if err != nil {
			return err
		}
		if !p.refine(h, ofChannels, 2, 2) && !p.refine(h, ofChannels, 1, 1) {
			least := h.intervals[ofChannels].min
			p.refine(h, ofChannels, least, least)
		}
		for _, r := range rates {
			if p.refine(h, ofRate, uint32(r), uint32(r)) {
				p.mode = mode{rate: r, channels: int(h.intervals[ofChannels].min), format: f}
				return p.set(h)
			}
		}
	}
	return errMode
}

var errMode = errors.New("none of its formats and rates can be taken")

// set makes the choice final. What the device does not offer of periods and
// buffers is left to it.
func (p *pcm) set(h *hwParams) error {
	second := uint32(p.rate)
	p.refine(h, ofBuffer, second/10, second)
	p.refine(h, ofPeriod, second/100, second/50)
	if err := p.ioctl(pcmHwParams, unsafe.Pointer(h)); err != nil {
		return fmt.Errorf("parameters: %w", err)
	}
	p.channels, p.buffer = int(h.intervals[ofChannels].min), int(h.intervals[ofBuffer].min)
	if p.channels < 1 || p.channels > maxChannels || p.buffer < 1 {
		return errMode
	}
	s := swParams{
		periodStep: 1, align: 1, start: 1,
		availMin: culong(min(p.rate/50, p.buffer/2)),
		stop:     culong(p.buffer), // full: an overrun
	}
	if err := p.ioctl(pcmSwParams, unsafe.Pointer(&s)); err != nil {
		return fmt.Errorf("parameters: %w", err)
	}
	return nil
}

// restart begins anew, after an overrun too.
func (p *pcm) restart() error {
	if err := p.ioctl(pcmPrepare, nil); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	if err := p.ioctl(pcmStart, nil); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

// read waits for at most half a second, reads frames into buf and says when
// the first of them was at the microphone. Nothing read is no error. EPIPE is
// an overrun, after which [pcm.restart] goes on.
func (p *pcm) read(buf []byte) (frames int, at time.Time, err error) {
	const wait = 500 // ms
	if n, err := unix.Poll(p.poll[:], wait); err != nil && !errors.Is(err, unix.EINTR) {
		return 0, at, fmt.Errorf("poll: %w", err)
	} else if n <= 0 {
		return 0, at, nil
	}
	if err := p.ioctl(pcmDelay, unsafe.Pointer(&p.delay)); err != nil {
		return 0, at, fmt.Errorf("delay: %w", err)
	}
	at = time.Now().Add(-time.Duration(p.delay) * time.Second / time.Duration(p.rate))
	p.xfer = transfer{buf: unsafe.Pointer(&buf[0]), frames: culong(len(buf) / p.frameBytes())}
	err = p.ioctl(pcmRead, unsafe.Pointer(&p.xfer))
	p.xfer.buf = nil
	if errors.Is(err, unix.EAGAIN) {
		return 0, at, nil
	}
	if err != nil {
		return 0, at, fmt.Errorf("read: %w", err)
	}
	return int(p.xfer.result), at, nil
}
