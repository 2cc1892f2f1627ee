//go:build !cgo || !linux || !(amd64 || arm64 || arm)

package protect

// foreign are the implementations that are not Go's: none without cgo.
func foreign() []*Implementation { return nil }
