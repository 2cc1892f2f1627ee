package encode

import (
	"sync/atomic"

	"edged/capture"
)

// layerShare is by how much the bitrate of a layer is below that of the one
// above. A quarter of the pixels needs more than a quarter of the bits; but
// the low layer is for links that carry some hundred kbit/s: with 2.5 Mbit/s
// on top, 500 and 100 kbit/s fit where 600 and 150 are left.
const layerShare = 5

// minLayerBitrate is what a layer gets at least, unless the one above has
// less, in bits/s.
const minLayerBitrate = 30_000

// Layers is what is encoded of each layer: layer 0 as cfg says, each further
// one at half the width and height, rounded down to even, and a fifth of the
// bitrate. All have the frame rate of the scene: half the rate would spare a
// third of a layer's bits but show as judder, and a viewer can change layers
// at any picture only where both have it. n must be 1 to
// [capture.MaxLayers]; where pictures would become too small (see
// [capture.LayerSize]) the layers are fewer than n.
func Layers(cfg Config, n int) []Config {
	all := []Config{cfg}
	for len(all) < min(n, capture.MaxLayers) {
		w, h, ok := capture.LayerSize(cfg.Width, cfg.Height, len(all))
		if !ok {
			break
		}
		above := all[len(all)-1].Bitrate
		all = append(all, Config{
			Width: w, Height: h, FPS: cfg.FPS, Use: cfg.Use,
			Bitrate: min(above, max(above/layerShare, minLayerBitrate)),
		})
	}
	return all
}

// Control carries the wishes of viewers to the streams of a source, one after
// the other: the keyframes, layers and bitrates of [capture.Source],
// [capture.LayerDemand] and [capture.RateControl], which a source implements by
// embedding it. The zero value wants all layers as configured.
type Control struct {
	layers [capture.MaxLayers]struct {
		keyframe, unwanted atomic.Bool
		bitrate            atomic.Int64 // bits/s; 0: as configured
	}
	encoder atomic.Pointer[string]
}

// Encoder is what encodes, for people; empty before the first picture.
func (c *Control) Encoder() string {
	if name := c.encoder.Load(); name != nil {
		return *name
	}
	return ""
}

// Keyframe makes the next picture of a layer a keyframe. It returns at once;
// any goroutine may call it.
func (c *Control) Keyframe(layer int) {
	if layer >= 0 && layer < len(c.layers) {
		c.layers[layer].keyframe.Store(true)
	}
}

// Demand says whether a layer is to be encoded. The smallest layer is encoded
// even where none is wanted. It returns at once; any goroutine may call it.
func (c *Control) Demand(layer int, wanted bool) {
	if layer >= 0 && layer < len(c.layers) {
		c.layers[layer].unwanted.Store(!wanted)
	}
}

// Bitrate sets the bitrate of a layer, at most the configured one. It returns
// at once; any goroutine may call it.
func (c *Control) Bitrate(layer, bits int) {
	if layer >= 0 && layer < len(c.layers) && bits > 0 {
		c.layers[layer].bitrate.Store(int64(bits))
	}
}
