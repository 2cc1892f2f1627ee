//go:build race

package protect

// raceDetector says that memory is not measured: the race detector takes its own.
const raceDetector = true
