package mic

import "math"

// resampler brings samples from a rate to 48 kHz: a polyphase filter, whose
// phases are the places between two samples at which one is wanted.
type resampler struct {
	channels int
	up, down int         // out of so many samples in come up/down as many
	taps     int         // of a phase
	phases   [][]float32 // up of them
	phase    int         // of the next sample out
	past     []float32   // input, taps frames of it kept
}

const (
	outRate  = 48000
	baseTaps = 48   // of a phase where the rate rises
	passband = 0.92 // of the lower rate's half
)

// newResampler gives nil where there is nothing to do.
func newResampler(rate, channels int) *resampler {
	if rate == outRate {
		return nil
	}
	d := gcd(rate, outRate)
	r := &resampler{channels: channels, up: outRate / d, down: rate / d}
	r.taps = baseTaps * max(1, (r.down+r.up-1)/r.up)
	cutoff := passband * min(1, float64(r.up)/float64(r.down)) // of half the rate in
	r.phases = make([][]float32, r.up)
	for p := range r.phases {
		r.phases[p] = phaseOf(r.taps, float64(p)/float64(r.up), cutoff)
	}
	r.reset()
	return r
}

// phaseOf is a low-pass sinc under a Blackman window whose middle lies a
// fraction of a sample after the middle of the taps, normalized to let
// silence and direct current be what they are.
func phaseOf(taps int, fraction, cutoff float64) []float32 {
	out, sum := make([]float32, taps), 0.0
	weights := make([]float64, taps)
	for i := range weights {
		x := float64(i) - float64(taps/2-1) - fraction
		w := 0.42 + 0.5*math.Cos(2*math.Pi*x/float64(taps)) + 0.08*math.Cos(4*math.Pi*x/float64(taps))
		s := cutoff
		if x != 0 {
			s = math.Sin(math.Pi*cutoff*x) / (math.Pi * x)
		}
		weights[i] = s * w
		sum += weights[i]
	}
	for i, w := range weights {
		out[i] = float32(w / sum)
	}
	return out
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// reset forgets what came before.
func (r *resampler) reset() {
	if r == nil {
		return
	}
	r.phase = 0
	r.past = append(r.past[:0], make([]float32, (r.taps/2-1)*r.channels)...)
}

// lag is how many samples at 48 kHz the next one out lies before the next one
// in.
func (r *resampler) lag() int {
	if r == nil {
		return 0
	}
	return ((len(r.past)/r.channels-(r.taps/2-1))*r.up - r.phase) / r.down
}

// add appends to out what can be said at 48 kHz after more input, both
// interleaved.
func (r *resampler) add(out, in []float32) []float32 {
	if r == nil {
		return append(out, in...)
	}
	r.past = append(r.past, in...)
	begin := 0 // frames of past that are done with
	for (begin+r.taps)*r.channels <= len(r.past) {
		weights, window := r.phases[r.phase], r.past[begin*r.channels:]
		for c := range r.channels {
			sum := float32(0)
			for i, w := range weights {
				sum += w * window[i*r.channels+c]
			}
			out = append(out, sum)
		}
		r.phase += r.down
		begin += r.phase / r.up
		r.phase %= r.up
	}
	r.past = r.past[:copy(r.past, r.past[begin*r.channels:])]
	return out
}
