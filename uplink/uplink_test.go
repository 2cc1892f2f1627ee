package uplink

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"edged/uplink/wire"
)

func TestConnects(t *testing.T) {
	leaks(t)
	for _, kind := range []string{"tcp", "websocket"} {
		t.Run(kind, func(t *testing.T) {
			b := startBroker(t, kind, freeAddress(t), &door{})
			scheme, path := "mqtt://", ""
			if kind == "websocket" {
				scheme, path = "ws://", "/"
			}
			state := &boxState{conns: 416, running: Running{Epoch: 1, Rev: 42, Hash: "beef", Source: "file"}}
			u, stop := start(t, testConfig(scheme+b.address+path), state, nil)

			on := b.awaitPresence()
			want := wire.Presence{
				V: 1, State: "on", Conn: 417, Boot: "boot-1", Version: "1.2.3",
				Config: wire.Revision{Epoch: 1, Rev: 42}, T: on.T, Clock: clockState(),
			}
			if on != want || time.Since(time.UnixMilli(on.T)).Abs() > time.Minute {
				t.Errorf("presence %+v, want %+v", on, want)
			}
			var r wire.Reported
			decode(t, b.await(wire.TopicConfig).payload, &r)
			rev := wire.Revision{Epoch: 1, Rev: 42, Hash: "beef"}
			if want := (wire.Reported{V: 1, Good: rev, Running: rev, Source: "file", Conn: 417}); r != want {
				t.Errorf("reported %+v, want %+v", r, want)
			}
			for i := range uint64(2) {
				s := unpack(t, b.await(wire.TopicStats).payload)
				if s.Seq != i+1 || s.Conn != 417 || s.Boot != "boot-1" || len(s.Windows) != 1 || s.Windows[0].Cameras[0].Frames == 0 {
					t.Errorf("statistics %s", text(t, s))
				}
			}
			until(t, "two windows acknowledged", func() bool { return u.Stats().Published["stats"] >= 2 })
			s := u.Stats()
			if !s.Connected || s.Conn != 417 || s.Connects != 1 || s.LastError != "" || s.Published["presence"] != 1 || s.Published["config"] != 1 {
				t.Errorf("stats %+v", s)
			}
			if len(u.Windows(time.Time{})) < 2 {
				t.Error("no windows for the page")
			}

			if took := stop(); took > 3*time.Second {
				t.Errorf("stopping took %v", took)
			}
			off := b.awaitPresence()
			if off.State != "off" || off.Reason != "stop" || off.Conn != 417 {
				t.Errorf("last presence %+v", off)
			}
			noMore(t, b) // above all no Will after a goodbye
			if u.Stats().Connected {
				t.Error("connected after the end")
			}
		})
	}
}

// noMore checks that no presence follows, once the broker has dealt with the
// end of the connection.
func noMore(t *testing.T, b *broker) {
	t.Helper()
	until(t, "the broker has let the box go", func() bool {
		c, ok := b.server.Clients.Get(testBox)
		return !ok || c.Closed()
	})
	for {
		select {
		case m := <-b.seen:
			if m.topic == root+wire.TopicPresence {
				t.Errorf("after the end: %s", m.payload)
			}
		default:
			return
		}
	}
}

func TestWillAfterACut(t *testing.T) {
	leaks(t)
	b := startBroker(t, "tcp", "127.0.0.1:0", &door{})
	u, _ := start(t, testConfig("mqtt://"+b.address), &boxState{}, nil)
	if p := b.awaitPresence(); p.State != "on" || p.Conn != 1 {
		t.Fatalf("first presence %+v", p)
	}
	until(t, "connected", func() bool { return u.Stats().Connected })
	b.cut()
	if p := b.awaitPresence(); p.State != "off" || p.Reason != "lost" || p.Conn != 1 {
		t.Errorf("after the cut: %+v, want the Will of connection 1", p)
	}
	if p := b.awaitPresence(); p.State != "on" || p.Conn != 2 {
		t.Errorf("then: %+v, want connection 2", p)
	}
}

func TestBrokerRestart(t *testing.T) {
	leaks(t)
	address := freeAddress(t)
	b := startBroker(t, "tcp", address, &door{})
	u, _ := start(t, testConfig("mqtt://"+address), &boxState{}, nil)
	first := unpack(t, b.await(wire.TopicStats).payload)
	b.close()
	until(t, "disconnected", func() bool { return !u.Stats().Connected })
	until(t, "windows wait", func() bool { return u.Stats().OutboxRecords >= 2 })

	b = startBroker(t, "tcp", address, &door{})
	u.Kick()
	if p := b.awaitPresence(); p.State != "on" || p.Conn != 2 {
		t.Errorf("presence %+v, want connection 2", p)
	}
	last := first.Seq
	for range 3 {
		s := unpack(t, b.await(wire.TopicStats).payload)
		if s.Stream != first.Stream || s.Conn != 2 || (s.Seq != last+1 && s.Seq != last) {
			t.Errorf("message %d of connection %d after %d", s.Seq, s.Conn, last)
		}
		last = s.Seq
	}
	until(t, "outbox empty", func() bool { return u.Stats().OutboxRecords == 0 })
}

func TestRefusals(t *testing.T) {
	leaks(t)
	tests := []struct {
		name string
		door *door
		err  string
	}{
		{"wrong password", &door{password: "right"}, "not Authorized"},
		{"subscription not granted", &door{deny: root + "/dn/#"}, "does not grant"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := startBroker(t, "tcp", "127.0.0.1:0", tt.door)
			cfg := testConfig("mqtt://" + b.address)
			cfg.Username, cfg.Password = "box", "hunter2"
			state := &boxState{}
			u, _ := start(t, cfg, state, nil)
			until(t, "refused", func() bool { return !u.Stats().NextTry.IsZero() })
			s := u.Stats()
			if wait := time.Until(s.NextTry); wait < 290*time.Second || wait > 330*time.Second {
				t.Errorf("next try in %v, want 300 s and up to a tenth more", wait)
			}
			if !strings.Contains(s.LastError, tt.err) || strings.Contains(s.LastError, "hunter2") || s.Connected {
				t.Errorf("stats %+v", s)
			}
			// The refusal is gone: a kick tries again at once.
			tt.door.open()
			u.Kick()
			if p := b.awaitPresence(); p.State != "on" && p.Reason != "lost" {
				t.Errorf("presence %+v", p)
			}
			until(t, "connected", func() bool { return u.Stats().Connected })
		})
	}
}

// An attempt that reaches nobody costs no connection number, since a number
// costs a write to the disk.
func TestAttemptsCostNoNumber(t *testing.T) {
	leaks(t)
	state := &boxState{}
	u, _ := start(t, testConfig("mqtt://"+freeAddress(t), "mqtt://"+freeAddress(t)), state, nil)
	for range 5 {
		until(t, "a round has failed", func() bool { return time.Until(u.Stats().NextTry) > 100*time.Millisecond })
		u.change(func(s *Stats) { s.NextTry = time.Time{} })
		u.Kick()
	}
	state.mu.Lock()
	defer state.mu.Unlock()
	if state.conns != 1 {
		t.Errorf("%d numbers used", state.conns)
	}
}

func TestReportsAChange(t *testing.T) {
	leaks(t)
	b := startBroker(t, "tcp", "127.0.0.1:0", &door{})
	state := &boxState{running: Running{Epoch: 1, Rev: 1, Source: "default"}}
	start(t, testConfig("mqtt://"+b.address), state, nil)
	b.await(wire.TopicConfig)
	state.mu.Lock()
	state.running = Running{Epoch: 1, Rev: 2, Hash: "aa", Source: "page"}
	state.mu.Unlock()
	var r wire.Reported
	decode(t, b.await(wire.TopicConfig).payload, &r)
	if r.Running.Rev != 2 || r.Source != "page" {
		t.Errorf("reported %+v", r)
	}
}

func TestPresenceIsRepeated(t *testing.T) {
	leaks(t)
	b := startBroker(t, "tcp", "127.0.0.1:0", &door{})
	start(t, testConfig("mqtt://"+b.address), &boxState{}, func(u *Uplink) { u.limits.presence = 50 * time.Millisecond })
	for range 3 {
		if p := b.awaitPresence(); p.State != "on" || p.Conn != 1 {
			t.Errorf("presence %+v", p)
		}
	}
}

func TestMessagesAreCountedOnly(t *testing.T) {
	leaks(t)
	b := startBroker(t, "tcp", "127.0.0.1:0", &door{})
	u, _ := start(t, testConfig("mqtt://"+b.address), &boxState{}, nil)
	until(t, "connected", func() bool { return u.Stats().Connected })
	const n = 200 // far over what the inbox holds
	for i := range n {
		if err := b.server.Publish(fmt.Sprintf("%s/dn/rpc/%d", root, i), make([]byte, 1000), false, 1); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all counted", func() bool { return u.Stats().NotTaken == n })
	if !u.Stats().Connected {
		t.Error("messages ended the connection")
	}
}

func TestNumberWithoutStorage(t *testing.T) {
	leaks(t)
	b := startBroker(t, "tcp", "127.0.0.1:0", &door{})
	start(t, testConfig("mqtt://"+b.address), &boxState{}, func(u *Uplink) {
		u.box.NextConn = func() (uint64, error) { return 0, errors.New("disk full") }
	})
	until(t, "present", func() bool { return b.awaitPresence().Conn == 1 })
	b.cut()
	until(t, "present again", func() bool { p := b.awaitPresence(); return p.State == "on" && p.Conn == 2 })
}

func TestDisabledOnlyRecords(t *testing.T) {
	leaks(t)
	cfg := Config{Window: time.Second, Batch: 5}
	u, _ := start(t, cfg, &boxState{}, nil)
	until(t, "a window", func() bool { return len(u.Windows(time.Time{})) > 0 })
	if s := u.Stats(); s.Enabled || s.Connected || s.OutboxRecords != 0 || s.LastError != "" {
		t.Errorf("stats %+v", s)
	}
}

func TestNewRefuses(t *testing.T) {
	good := (&boxState{}).box()
	tests := []struct {
		name   string
		change func(*Config, *Box)
		err    string
	}{
		{"window", func(c *Config, _ *Box) { c.Window = 0 }, "window: 0s"},
		{"batch", func(c *Config, _ *Box) { c.Batch = 0 }, "batch: 0"},
		{"no box", func(_ *Config, b *Box) { b.Sample = nil }, "a function is missing"},
		{"tenant", func(c *Config, _ *Box) { c.Tenant = "a/b" }, `tenant: "a/b"`},
		{"id", func(_ *Config, b *Box) { b.ID = "+" }, "not 26 characters"},
		{"half a certificate", func(c *Config, _ *Box) { c.ClientCert = "x" }, "belong together"},
		{"no server", func(c *Config, _ *Box) { c.Servers = nil }, "servers: none"},
		{"scheme", func(c *Config, _ *Box) { c.Servers = []string{"mqtt://a", "http://b"} }, "servers[1]: the scheme"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, box := testConfig("mqtt://a"), good
			tt.change(&cfg, &box)
			_, err := New(cfg, box, slog.New(slog.NewTextHandler(io.Discard, nil)))
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v, want an error with %q", err, tt.err)
			}
		})
	}
}

func TestParseServer(t *testing.T) {
	good := map[string]string{
		"mqtt://broker":             "mqtt://broker:1883",
		"mqtts://broker/":           "mqtts://broker:8883",
		"mqtts://10.0.0.1:1":        "mqtts://10.0.0.1:1",
		"mqtt://[fd00::1]":          "mqtt://[fd00::1]:1883",
		"ws://broker":               "ws://broker:80/mqtt",
		"wss://broker/a/b":          "wss://broker:443/a/b",
		"wss://broker:9001/mqtt%20": "wss://broker:9001/mqtt%20",
	}
	for in, want := range good {
		if v, err := parseServer(in); err != nil || v.String() != want {
			t.Errorf("%s: %v, %v, want %s", in, v, err, want)
		}
	}
	for _, in := range []string{
		"", "broker", "tcp://broker", "mqtt://", "mqtt://:1883", "mqtt://broker/x", "ws://broker?x=hunter2",
		"mqtt://u:hunter2@broker", "mqtt://u:hunter2@bro ker", "mqtts://broker:hunter2",
	} {
		if v, err := parseServer(in); err == nil {
			t.Errorf("%q: taken as %v", in, v)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: the error repeats it: %v", in, err)
		}
	}
}
