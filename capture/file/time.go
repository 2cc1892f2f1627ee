package file

import (
	"math"
	"math/bits"
)

// scale is v * num / den, or false where that leaves the range of times.
func scale(v, num, den uint64) (int64, bool) {
	hi, lo := bits.Mul64(v, num)
	if hi >= den {
		return 0, false
	}
	q, _ := bits.Div64(hi, lo, den)
	if q > math.MaxInt64/2 {
		return 0, false
	}
	return int64(q), true
}
