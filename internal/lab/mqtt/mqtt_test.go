package mqtt

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"edged/uplink"
	"edged/uplink/wire"
)

const (
	boxID = "abcdefghijklmnopqrstuvwx23"
	root  = "edged/1/acme/" + boxID
)

// TestMain also is the box of TestWillAfterKill, in a process of its own.
func TestMain(m *testing.M) {
	if url := os.Getenv("EDGED_LAB_BROKER"); url != "" {
		u, err := uplink.New(config(url), box(), slog.New(slog.NewTextHandler(os.Stderr, nil)))
		if err == nil {
			err = u.Run(context.Background())
		}
		panic(err) // it is killed before
	}
	os.Exit(m.Run())
}

func config(url string) uplink.Config {
	return uplink.Config{Enabled: true, Servers: []string{url}, Tenant: "acme", Window: time.Second, Batch: 1}
}

func box() uplink.Box {
	var conns, frames atomic.Uint64
	return uplink.Box{
		ID: boxID, Version: "1.2.3", Boot: "boot",
		NextConn: func() (uint64, error) { return conns.Add(1), nil },
		Config:   func() uplink.Running { return uplink.Running{Epoch: 1, Rev: 42, Hash: "beef", Source: "file"} },
		Sample: func() uplink.Sample {
			return uplink.Sample{Cameras: []uplink.CameraSample{{ID: "dock", State: "live", Frames: frames.Add(30)}}}
		},
	}
}

// run runs an uplink until stop is called, or the test ends.
func run(t *testing.T, cfg uplink.Config) (u *uplink.Uplink, stop func()) {
	t.Helper()
	u, err := uplink.New(cfg, box(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return u, stop
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func leaks(t *testing.T) {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
}

func presence(t *testing.T, m Message) (p wire.Presence) {
	t.Helper()
	if err := json.Unmarshal(m.Payload, &p); err != nil {
		t.Fatalf("%s: %v", m.Payload, err)
	}
	return p
}

func statistics(t *testing.T, m Message) (s wire.Stats) {
	t.Helper()
	b := m.Payload
	if bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if b, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return s
}

func TestPresenceAndStatistics(t *testing.T) {
	leaks(t)
	b := Start(t, Options{Passwords: map[string]string{"gate-7": "pässword", "console": "c"}, ACL: true})
	w := b.Watch(t, "edged/#")
	cfg := config(b.URL)
	cfg.Username, cfg.Password, cfg.Batch = "gate-7", "pässword", 2
	u, stop := run(t, cfg)
	if p := presence(t, w.Next("/up/presence")); p.State != "on" || p.Conn != 1 || p.Config.Rev != 42 {
		t.Errorf("presence %+v", p)
	}
	var reported wire.Reported
	if err := json.Unmarshal(w.Next("/up/config").Payload, &reported); err != nil || reported.Running.Hash != "beef" {
		t.Errorf("reported %+v, %v", reported, err)
	}
	for i := range uint64(2) {
		s := statistics(t, w.Next("/up/stats"))
		if s.Seq != i+1 || len(s.Windows) != 2 || s.Windows[0].Cameras[0].Frames == 0 || s.Windows[0].To != s.Windows[1].From {
			t.Errorf("statistics %+v", s)
		}
	}

	// A console that comes later finds the retained state.
	late := b.Watch(t, root+"/up/presence").Next("/up/presence")
	if p := presence(t, late); p.State != "on" || !late.Retain {
		t.Errorf("retained presence %+v", p)
	}
	b.Publish(t, root+"/dn/rpc", []byte(`{"v":1}`), false)
	until(t, "the message was counted", func() bool { return u.Stats().NotTaken == 1 })

	stop()
	if p := presence(t, w.Next("/up/presence")); p.State != "off" || p.Reason != "stop" || p.Conn != 1 {
		t.Errorf("after the stop: %+v", p)
	}
}

func TestWillAfterKill(t *testing.T) {
	b := Start(t, Options{})
	w := b.Watch(t, root+"/up/presence")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Stderr = t.Output()
	c.Env = append(os.Environ(), "EDGED_LAB_BROKER="+b.URL)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	}()
	if p := presence(t, w.Next("/up/presence")); p.State != "on" {
		t.Errorf("presence %+v", p)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if p := presence(t, w.Next("/up/presence")); p.State != "off" || p.Reason != "lost" || p.Conn != 1 {
		t.Errorf("after the kill: %+v, want the Will", p)
	}
}

func TestBrokerRestart(t *testing.T) {
	leaks(t)
	b := Start(t, Options{})
	u, _ := run(t, config(b.URL))
	until(t, "published", func() bool { return u.Stats().Published["stats"] > 0 })
	b.Stop()
	until(t, "windows wait", func() bool { return u.Stats().OutboxRecords >= 2 })
	b.Restart(t)
	u.Kick()
	until(t, "all published", func() bool { s := u.Stats(); return s.Connects == 2 && s.OutboxRecords == 0 })
	if p := presence(t, b.Watch(t, root+"/up/presence").Next("/up/presence")); p.State != "on" || p.Conn < 2 {
		t.Errorf("presence %+v", p)
	}
}

func TestGrantIsChecked(t *testing.T) {
	leaks(t)
	b := Start(t, Options{Users: []User{
		{Name: "good", Password: "g", Publish: []string{root + "/up/#"}, Subscribe: []string{root + "/dn/#"}},
		{Name: "deaf", Password: "d", Publish: []string{root + "/up/#"}},
	}})
	cfg := config(b.URL)
	cfg.Username, cfg.Password = "deaf", "d"
	u, stop := run(t, cfg)
	until(t, "refused", func() bool { return u.Stats().LastError != "" })
	if s := u.Stats(); s.Connected || !strings.Contains(s.LastError, "does not grant") || time.Until(s.NextTry) < 4*time.Minute {
		t.Errorf("stats %+v", s)
	}
	stop()

	cfg.Username, cfg.Password = "good", "g"
	u, _ = run(t, cfg)
	until(t, "connected", func() bool { return u.Stats().Published["stats"] > 0 })
}

func TestWrongPassword(t *testing.T) {
	leaks(t)
	b := Start(t, Options{Passwords: map[string]string{"gate-7": "right"}})
	cfg := config(b.URL)
	cfg.Username, cfg.Password = "gate-7", "wrong"
	u, _ := run(t, cfg)
	until(t, "refused", func() bool { return u.Stats().LastError != "" })
	if s := u.Stats(); !strings.Contains(s.LastError, "not Authorized") || time.Until(s.NextTry) < 4*time.Minute {
		t.Errorf("stats %+v", s)
	}
}

func TestTLS(t *testing.T) {
	leaks(t)
	b := Start(t, Options{TLS: true, ClientCerts: true})
	tests := []struct {
		name    string
		change  func(*uplink.Config)
		err     string
		refused bool // the next try is minutes away
	}{
		{"right", func(*uplink.Config) {}, "", false},
		{"wrong authority", func(c *uplink.Config) { c.CA = b.OtherCA }, "unknown authority", false},
		{"wrong name", func(c *uplink.Config) { c.Servers[0] = strings.Replace(b.URL, "localhost", "127.0.0.1", 1) }, "127.0.0.1", false},
		{"no client certificate", func(c *uplink.Config) { c.ClientCert, c.ClientKey = "", "" }, "remote error", true},
		{"stranger's certificate", func(c *uplink.Config) { c.ClientCert, c.ClientKey = b.WrongCert, b.WrongKey }, "remote error", true},
		{"no such file", func(c *uplink.Config) { c.CA = "/nowhere/ca.pem" }, "ca: open /nowhere/ca.pem", false},
		{"no certificate in the file", func(c *uplink.Config) { c.CA = b.ClientKey }, "no certificate in it", false},
		{"key of another", func(c *uplink.Config) { c.ClientKey = b.WrongKey }, "client_cert, client_key", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config(b.URL)
			cfg.CA, cfg.ClientCert, cfg.ClientKey = b.CA, b.ClientCert, b.ClientKey
			tt.change(&cfg)
			u, _ := run(t, cfg)
			if tt.err == "" {
				until(t, "published", func() bool { return u.Stats().Published["stats"] > 0 })
				return
			}
			until(t, "failed", func() bool { return u.Stats().LastError != "" })
			s := u.Stats()
			if !strings.Contains(s.LastError, tt.err) || (time.Until(s.NextTry) > 4*time.Minute) != tt.refused {
				t.Errorf("stats %+v, want an error with %q", s, tt.err)
			}
		})
	}
}

func TestWebSocket(t *testing.T) {
	leaks(t)
	for _, tls := range []bool{false, true} {
		b := Start(t, Options{WebSocket: true, TLS: tls, ClientCerts: tls})
		w := b.Watch(t, "edged/#")
		cfg := config(b.URL)
		cfg.CA, cfg.ClientCert, cfg.ClientKey = b.CA, b.ClientCert, b.ClientKey
		_, stop := run(t, cfg)
		if p := presence(t, w.Next("/up/presence")); p.State != "on" {
			t.Errorf("%s: presence %+v", b.URL, p)
		}
		if s := statistics(t, w.Next("/up/stats")); s.Seq != 1 {
			t.Errorf("%s: statistics %+v", b.URL, s)
		}
		stop()
		if p := presence(t, w.Next("/up/presence")); p.State != "off" || p.Reason != "stop" {
			t.Errorf("%s: presence %+v", b.URL, p)
		}
	}
}
