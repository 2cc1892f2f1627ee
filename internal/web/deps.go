package web

import (
	"context"
	"crypto"
	"io/fs"
	"net/http"
	"net/netip"
	"time"

	"edged/internal/signaling"
)

// Deps is what the server shows and reaches of the rest of the box. Every
// function may be called from many goroutines at once and returns at once,
// Config.Put and Snapshot excepted. Nil members: Key (no self-signed HTTPS), Metrics,
// Config, Stats and Topology (their routes answer 404), Ready (always ready).
type Deps struct {
	Signaling *signaling.Server         // WHEP, WHIP, /rpc and /api/v1/signal
	Page      fs.FS                     // static files, index.html at the root
	Key       crypto.Signer             // the box's P-256 key, for a self-signed certificate
	Box       func() Box                // GET /api/v1/box; Health and Uptime are filled in here
	Health    func() []Health           // one a subsystem, in a fixed order
	Ready     func() bool               // every subsystem has begun its work
	Metrics   http.Handler              // GET /metrics
	Config    ConfigStore               // GET and PUT /api/v1/config
	Stats     func(since time.Time) any // GET /api/v1/stats, marshalled as JSON; zero time: all
	Topology  func() any                // GET /api/v1/topology, marshalled as JSON

	// Snapshot is GET /api/v1/cameras/{id}/snapshot.jpg: at most width pixels
	// wide, 0 for any. It may block for some seconds. The error carries a
	// [capture.Code]. Nil: 404.
	Snapshot func(ctx context.Context, camera string, width int) (Snapshot, error)
}

// Box is what GET /api/v1/box tells.
type Box struct {
	Name      string       `json:"name"`
	ID        string       `json:"id"`
	Version   string       `json:"version"`
	Started   time.Time    `json:"started"`
	Uptime    float64      `json:"uptime"` // seconds; filled in by this package
	Addresses []netip.Addr `json:"addresses"`
	Ports     Ports        `json:"ports"`
	Config    Revision     `json:"config"`
	Health    []Health     `json:"health"` // filled in by this package
}

// Ports are the ports really in use; 0 is off.
type Ports struct {
	HTTP uint16 `json:"http"` // filled in by this package
	UDP  uint16 `json:"udp"`
	TCP  uint16 `json:"tcp"`
	TURN uint16 `json:"turn"`
}

// Revision names the running configuration.
type Revision struct {
	Epoch  int    `json:"epoch"`
	Rev    int    `json:"rev"`
	Hash   string `json:"hash,omitempty"`
	Source string `json:"source,omitempty"` // console, file, page, default
}

// Health is one subsystem, at one moment.
type Health struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"` // for people, without secrets
}

// ConfigStore shows and replaces the running configuration.
type ConfigStore interface {
	// Document is the running document, YAML or JSON, secrets redacted.
	Document() []byte
	// Put replaces the configuration by doc and blocks until it is applied or
	// refused. restart names the keys whose change needs a new process. An
	// error that implements [Faulty] is answered with 422 and every fault,
	// any other with 500.
	Put(ctx context.Context, doc []byte) (restart []string, err error)
}

// Faulty is an error that lists what is wrong with a document.
type Faulty interface {
	error
	Faults() []Fault
}

// Fault is one thing wrong with a document (RFC 9457 §3.1's example form).
type Fault struct {
	Pointer string `json:"pointer"` // JSON pointer (RFC 6901)
	Detail  string `json:"detail"`
}
