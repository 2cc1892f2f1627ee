package box

import (
	"fmt"
	"log/slog"
	"strings"

	"edged/capture"
	"edged/capture/file"
	"edged/capture/mic"
	"edged/capture/pattern"
	"edged/capture/rpicam"
	"edged/capture/rtsp"
	"edged/capture/v4l2"
	"edged/forward/ingest"
)

// NewSource makes the source that a camera's URL names. It opens nothing.
func NewSource(cfg capture.Config, log *slog.Logger) (capture.Source, error) {
	log = log.With("camera", cfg.ID)
	scheme, _, _ := strings.Cut(cfg.Source, ":")
	switch scheme {
	case "pattern":
		return pattern.New(cfg, log)
	case "rtsp", "rtsps":
		return rtsp.New(cfg, log)
	case "v4l2":
		return v4l2.New(cfg, log)
	case "rpicam":
		return rpicam.New(cfg, log)
	case "file":
		return file.New(cfg, log)
	case "whip":
		return ingest.New(log), nil
	}
	return nil, fmt.Errorf("source: %q is no kind of camera", scheme+":")
}

// newMicrophone makes the microphone of a camera whose pictures come without
// sound; nil where it is to have none. It opens nothing.
func newMicrophone(cfg capture.Config, log *slog.Logger) (capture.Microphone, error) {
	if silent := strings.HasPrefix(cfg.Source, "v4l2:") || strings.HasPrefix(cfg.Source, "rpicam:"); !cfg.Audio.Enabled || !silent {
		return nil, nil
	}
	return mic.New(cfg, log.With("camera", cfg.ID))
}
