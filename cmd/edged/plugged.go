package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"edged/capture"
	"edged/capture/v4l2"
	"edged/internal/config"
)

// devices lists the capture devices that are plugged in.
func devices(log *slog.Logger) []v4l2.Device {
	found, err := v4l2.Devices()
	if err != nil {
		log.Warn("capture devices", "err", err)
	}
	return found
}

// defaultDocument is the test pattern, the cameras of before, and those found
// that are none of them. Who was once there keeps id and place.
func defaultDocument(before []capture.Config, found []v4l2.Device) []byte {
	var cams []capture.Config
	for _, c := range before {
		if strings.HasPrefix(c.Source, "v4l2:") {
			cams = append(cams, capture.Config{ID: c.ID, Source: c.Source})
		}
	}
	for _, d := range found {
		known := func(c capture.Config) bool { return d.Is(strings.TrimPrefix(c.Source, "v4l2:")) }
		if !slices.ContainsFunc(cams, known) {
			cams = append(cams, capture.Config{ID: fmt.Sprintf("camera-%d", len(cams)+1), Source: "v4l2:" + d.Stable()})
		}
	}
	return config.DefaultDocument(cams...)
}

// plugIn gives a box that runs the default configuration the cameras that are
// plugged in, until ctx is done.
func (l *live) plugIn(ctx context.Context) error {
	err := v4l2.Watch(ctx, func() {
		if err := l.found(devices(l.log)); err != nil {
			l.log.Error("a camera that was plugged in", "err", err)
		}
	})
	if err != nil {
		l.log.Warn("cameras that are plugged in are not noticed", "err", err)
	}
	<-ctx.Done() // a box without them goes on
	return nil
}

// found adds devices to the default configuration, where that is what runs.
func (l *live) found(devices []v4l2.Device) error {
	l.put.Lock()
	defer l.put.Unlock()
	old, before := l.current()
	if before.Source != sourceDefault {
		return nil
	}
	doc := defaultDocument(old.Cameras, devices)
	cfg, err := config.Parse(doc)
	if err != nil {
		return err
	}
	added, err := l.box.Apply(cfg.Cameras)
	if err != nil {
		return err
	}
	before.Bytes = doc
	l.mu.Lock()
	l.cfg, l.doc = cfg, before
	l.mu.Unlock()
	if len(added.Added) > 0 {
		l.log.Info("plugged in", "cameras", added.Added)
	}
	return nil
}
