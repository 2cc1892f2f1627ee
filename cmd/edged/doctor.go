package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"edged/capture"
	"edged/capture/encode"
	"edged/capture/v4l2"
	"edged/forward"
	"edged/forward/protect"
	"edged/internal/box"
	"edged/internal/config"
	"edged/internal/probe"
	"edged/storage"
)

// finding is one thing that the doctor looked at.
type finding struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// doctor checks what the box needs to work: it opens and binds, and leaves
// everything as it was. Beside a running box the ports are in use: it says so.
func doctor(args []string, stdout io.Writer) error {
	var o options
	var asJSON bool
	rest, err := parse("doctor", args, func(fs *flag.FlagSet) {
		o.define(fs)
		fs.BoolVar(&asJSON, "json", false, "")
	})
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usagef("edged doctor: %q is not understood; see edged help", rest[0])
	}
	findings, err := examine(o)
	if err != nil {
		return err
	}
	bad := 0
	for _, f := range findings {
		if !f.OK {
			bad++
		}
		if !asJSON {
			mark := "ok  "
			if !f.OK {
				mark = "BAD "
			}
			if _, err := fmt.Fprintf(stdout, "%s%s: %s\n", mark, f.Name, f.Detail); err != nil {
				return err
			}
		}
	}
	if asJSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		if err := e.Encode(findings); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d checks are bad", bad, len(findings))
	}
	return nil
}

func examine(o options) ([]finding, error) {
	var out []finding
	say := func(name string, err error, good string, a ...any) {
		if err != nil {
			out = append(out, finding{name, false, err.Error()})
		} else {
			out = append(out, finding{name, true, fmt.Sprintf(good, a...)})
		}
	}
	cfg := config.Default()
	if o.config != "" {
		given, err := readConfig(o.config)
		if err != nil {
			return nil, err
		}
		cfg = given.cfg
	}
	say("configuration", nil, "%d cameras", len(cfg.Cameras))
	err := storage.CheckDir(o.data)
	say("data directory", err, "%s can be written", o.data)
	if err == nil {
		identity, err := storage.OpenIdentity(o.data)
		if err != nil {
			say("identity", err, "")
		} else {
			say("identity", nil, "box %s", identity.Box())
		}
	}
	say("clock", clock(time.Now()), "%s", time.Now().UTC().Format(time.RFC3339))
	say("port http.listen", tcp(cfg.HTTP.Listen), "TCP %s is free", cfg.HTTP.Listen)
	say("port webrtc.udp", udp(cfg.WebRTC.UDP), "UDP %s is free", cfg.WebRTC.UDP)
	if cfg.WebRTC.TCP != "" {
		say("port webrtc.tcp", tcp(cfg.WebRTC.TCP), "TCP %s is free", cfg.WebRTC.TCP)
	}
	if cfg.TURN.Enabled {
		say("port turn.listen", udp(cfg.TURN.Listen), "UDP %s is free", cfg.TURN.Listen)
	}
	costs, err := protect.Summary()
	say("SRTP", err, "%s", costs)
	encoder, err := encoder()
	say("encoder", err, "%s", encoder)
	if err == nil {
		r, err := wholePath()
		say("pattern to viewer", err, "first packet after %v, %d frames, %d packets lost, over %s", r.FirstPacket.Round(time.Millisecond), r.Frames, r.Lost, r.Path)
	}
	devices, err := v4l2.Devices()
	say("V4L2 cameras", err, "%d found", len(devices))
	for _, d := range devices {
		say("camera "+d.Path, openable(d.Path), "%s", d.Name)
	}
	return out, nil
}

// wholePath forwards a small test pattern to a real viewer in this process,
// over the box's own addresses: capture, encoder, SFU, ICE, DTLS and SRTP.
func wholePath() (probe.Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	dir, err := os.MkdirTemp("", "edged-doctor-")
	if err != nil {
		return probe.Result{}, err
	}
	defer os.RemoveAll(dir)
	identity, err := storage.OpenIdentity(dir)
	if err != nil {
		return probe.Result{}, err
	}
	log := slog.New(slog.DiscardHandler)
	sfu, err := forward.New(forward.Config{UDP: ":0", MaxViewers: 1}, identity.Certificate, log)
	if err != nil {
		return probe.Result{}, err
	}
	cameras := box.New(sfu, log)
	if _, err := cameras.Apply([]capture.Config{{ID: "test", Source: "pattern:", Video: capture.VideoConfig{Width: 320, Height: 180, FPS: 15}}}); err != nil {
		return probe.Result{}, err
	}
	group, running := errgroup.WithContext(ctx)
	running, stop := context.WithCancel(running)
	group.Go(func() error { return sfu.Run(running) })
	group.Go(func() error { return cameras.Run(running) })
	var r probe.Result
	group.Go(func() (err error) {
		defer stop()
		r, err = probe.Run(running, 10, func(ctx context.Context, offer string) (string, error) { return joinWhenLive(ctx, sfu, cameras, offer) })
		return err
	})
	return r, group.Wait()
}

func joinWhenLive(ctx context.Context, sfu *forward.SFU, cameras *box.Box, offer string) (string, error) {
	for {
		_, stream, _ := cameras.Camera("test")
		_, answer, err := sfu.Join(ctx, stream, forward.ViewerOptions{Offer: offer, Subject: "doctor"})
		if !errors.Is(err, forward.ErrOffline) && !errors.Is(err, forward.ErrGone) {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// clock doubts a clock from before this program was written: tokens and
// certificates would not be good yet.
func clock(now time.Time) error {
	if now.Year() < 2025 {
		return fmt.Errorf("the clock says %s: tokens will not be accepted", now.Format(time.DateOnly))
	}
	return nil
}

// encoder is what a camera of this box would be encoded by: it has encoded a
// picture.
func encoder() (name string, err error) {
	cfg := encode.Config{Width: 640, Height: 480, FPS: 30, Bitrate: 1_000_000}
	e, err := encode.New(cfg)
	if err != nil {
		return "", err
	}
	_, err = e.Encode(image.NewYCbCr(image.Rect(0, 0, cfg.Width, cfg.Height), image.YCbCrSubsampleRatio420), time.Now())
	return e.Name(), errors.Join(err, e.Close())
}

func tcp(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

func udp(addr string) error {
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}

func openable(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w: the user needs the group video", err)
	}
	if err != nil {
		return err
	}
	return f.Close()
}
