//go:build race

package forward_test

// raceDetector says that memory is not measured: the race detector takes its own.
const raceDetector = true
