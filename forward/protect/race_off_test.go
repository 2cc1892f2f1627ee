//go:build !race

package protect

const raceDetector = false
