package uplink

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/goleak"

	"edged/uplink/wire"
)

const (
	testBox = "abcdefghijklmnopqrstuvwx23"
	root    = "edged/1/acme/" + testBox
)

// message is what a broker's subscriber saw.
type message struct {
	topic   string
	payload []byte
	retain  bool
}

// broker is a real broker in this process.
type broker struct {
	t       *testing.T
	server  *mqtt.Server
	address string
	seen    chan message
	closed  sync.Once
}

func (b *broker) close() { b.closed.Do(func() { _ = b.server.Close() }) }

// door decides who may come in and what they may do.
type door struct {
	mqtt.HookBase

	mu       sync.Mutex
	password string // empty: everybody
	deny     string // a filter that is not granted
}

// open lets everybody do everything.
func (d *door) open() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.password, d.deny = "", ""
}

func (d *door) ID() string { return "door" }

func (d *door) Provides(b byte) bool {
	return b == mqtt.OnConnectAuthenticate || b == mqtt.OnACLCheck
}

func (d *door) OnConnectAuthenticate(_ *mqtt.Client, pk packets.Packet) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.password == "" || string(pk.Connect.Password) == d.password
}

func (d *door) OnACLCheck(_ *mqtt.Client, topic string, _ bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return topic != d.deny
}

// startBroker listens on address; "websocket" as kind serves MQTT there.
func startBroker(t *testing.T, kind, address string, d *door) *broker {
	t.Helper()
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumMessageExpiryInterval = 0
	s := mqtt.New(&mqtt.Options{
		InlineClient: true, Capabilities: caps, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err := s.AddHook(d, nil); err != nil {
		t.Fatal(err)
	}
	var l listeners.Listener = listeners.NewTCP(listeners.Config{ID: "test", Address: address})
	if kind == "websocket" {
		l = listeners.NewWebsocket(listeners.Config{ID: "test", Address: address})
	}
	if err := s.AddListener(l); err != nil {
		t.Fatal(err)
	}
	b := &broker{t: t, server: s, address: l.Address(), seen: make(chan message, 1000)}
	err := s.Subscribe("edged/#", 1, func(_ *mqtt.Client, _ packets.Subscription, pk packets.Packet) {
		b.seen <- message{pk.TopicName, bytes.Clone(pk.Payload), pk.FixedHeader.Retain}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return b
}

// freeAddress is a loopback address on which nobody listens now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// await returns the next message on a topic below the box's root.
func (b *broker) await(suffix string) message {
	b.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case m := <-b.seen:
			if m.topic == root+suffix {
				return m
			}
		case <-deadline:
			b.t.Fatalf("no message on %s", suffix)
		}
	}
}

func (b *broker) awaitPresence() wire.Presence {
	b.t.Helper()
	m := b.await(wire.TopicPresence)
	if len(m.payload) > wire.MaxPresence {
		b.t.Errorf("presence of %d bytes", len(m.payload))
	}
	var p wire.Presence
	decode(b.t, m.payload, &p)
	return p
}

func decode(t *testing.T, payload []byte, v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
}

// cut breaks the box's connection without a word.
func (b *broker) cut() {
	b.t.Helper()
	c, ok := b.server.Clients.Get(testBox)
	if !ok {
		b.t.Fatal("the box is not connected")
	}
	_ = c.Net.Conn.Close()
}

// boxState is a box whose configuration and counters a test changes.
type boxState struct {
	mu      sync.Mutex
	conns   uint64
	running Running
	frames  uint64
}

func (b *boxState) box() Box {
	return Box{
		ID: testBox, Version: "1.2.3", Boot: "boot-1",
		NextConn: func() (uint64, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.conns++
			return b.conns, nil
		},
		Config: func() Running {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.running
		},
		Sample: func() Sample {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.frames += 30
			return Sample{Cameras: []CameraSample{{ID: "dock", State: "live", Frames: b.frames}}}
		},
	}
}

func testConfig(servers ...string) Config {
	return Config{Enabled: true, Servers: servers, Tenant: "acme", Window: time.Second, Batch: 1}
}

// start runs an uplink; stop ends it and says how long that took.
func start(t *testing.T, cfg Config, b *boxState, adjust func(*Uplink)) (u *Uplink, stop func() time.Duration) {
	t.Helper()
	u, err := New(cfg, b.box(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	if adjust != nil {
		adjust(u)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	var once sync.Once
	stop = func() (took time.Duration) {
		once.Do(func() {
			began := time.Now()
			cancel()
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("Run: %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Error("Run does not end")
			}
			took = time.Since(began)
		})
		return took
	}
	t.Cleanup(func() { stop() })
	return u, stop
}

// until polls a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
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
