// Package lossy is the laboratory of bad links: Chromium watches one test
// picture over a path that loses, delays and narrows, from edged and from
// plain pion at the same time, each over a path of its own with the same
// seed.
//
// The path is a program between two sockets and not the kernel's: delay needs
// a queueing discipline that not every kernel has, and the right to set it.
// So that media takes it, the page gets its answers from here, with the
// path's address in place of the box's; offers go on without the browser's
// addresses, lest the box find a way around.
package lossy

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"edged/internal/lab/browser"
	"edged/internal/lab/link"
)

//go:embed page.html
var page []byte

// Sample is what the browser says of a picture at one moment. All but Width
// count from its beginning.
type Sample struct {
	At      int64   `json:"at"`    // Unix milliseconds
	Width   int     `json:"width"` // of the last frame
	Decoded int     `json:"decoded"`
	Keys    int     `json:"keys"` // keyframes decoded
	Dropped int     `json:"dropped"`
	Freezes int     `json:"freezes"`
	Frozen  float64 `json:"frozen"` // s, of freezes that have ended
	NACKs   int     `json:"nacks"`  // feedback packets, each for several lost ones
	PLIs    int     `json:"plis"`
	Packets int     `json:"packets"`
	Repairs int     `json:"repairs"` // FlexFEC packets
	Unused  int     `json:"unused"`  // … that nothing was made of
	Bytes   int     `json:"bytes"`
}

// Subject is who is watched.
type Subject struct {
	Name     string // a word, for the table and the page
	Endpoint string // WHEP
	Bare     bool   // the offer has no FlexFEC
}

// Lab is a browser that watches subjects, each over a path of its own.
type Lab struct {
	subjects []Subject
	seed     uint64
	local    netip.Addr
	page     *browser.Page
	server   *http.Server

	mu    sync.Mutex
	ctx   context.Context // of Run
	paths map[string]*link.Path
	both  link.Shape
	group sync.WaitGroup
}

// New makes a laboratory whose paths lose by a seed.
func New(subjects []Subject, seed uint64) *Lab {
	return &Lab{subjects: subjects, seed: seed, local: own(), paths: map[string]*link.Path{}}
}

// Run opens the page, lets the first subject's picture begin, calls watch, and
// ends all of it. The paths are those of the last Shape; one that is too narrow
// for a subject is no reason not to watch it.
func (l *Lab) Run(ctx context.Context, watch func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer l.group.Wait()
	defer cancel()
	l.ctx = ctx
	at, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	l.server = &http.Server{Handler: l, ReadHeaderTimeout: 5 * time.Second}
	l.group.Go(func() { _ = l.server.Serve(at) })
	defer l.server.Close()
	if l.page, err = browser.Launch(ctx, browser.Options{}); err != nil {
		return err
	}
	defer l.page.Close()
	names := make([]string, len(l.subjects))
	for i, s := range l.subjects {
		names[i] = s.Name
	}
	if err := l.page.Goto(fmt.Sprintf("http://%s/?watch=%s", at.Addr(), strings.Join(names, ","))); err != nil {
		return err
	}
	if err := l.page.Wait("window.samples?.[0].at(-1)?.decoded > 30 && window.samples.every((s) => s.length > 0)", time.Minute); err != nil {
		said, _ := l.page.Said()
		return fmt.Errorf("no picture to begin with: %w: %s", err, strings.Join(said, "; "))
	}
	return watch(ctx)
}

// Shape sets both directions of all paths: the bottleneck is on the way to the
// browser alone.
func (l *Lab) Shape(s link.Shape) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.both = s
	for _, p := range l.paths {
		l.shape(p)
	}
}

func (l *Lab) shape(p *link.Path) {
	up := l.both
	up.Rate = 0
	p.Shape(l.both, up)
}

// Samples are what the browser has told so far, by subject.
func (l *Lab) Samples() (all [][]Sample, err error) {
	return all, l.page.Eval(&all, "window.samples")
}

// Until waits until an expression of JavaScript, in which s is the last sample
// of a subject, is true.
func (l *Lab) Until(subject int, expression string, limit time.Duration) error {
	return l.page.Wait(fmt.Sprintf("((s) => %s)(window.samples[%d].at(-1))", expression, subject), limit)
}

// Counts are what the path from a subject to the browser did.
func (l *Lab) Counts(subject int) link.Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	down, _ := l.paths[l.subjects[subject].Name].Counts()
	return down
}

// ServeHTTP serves the page, and offers for the subjects.
func (l *Lab) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for i, s := range l.subjects {
		if r.Method != http.MethodPost || r.URL.Path != "/whep/"+s.Name {
			continue
		}
		offer, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		if err == nil {
			var answer string
			if answer, err = l.join(r.Context(), i, string(offer)); err == nil {
				w.WriteHeader(http.StatusCreated)
				_, _ = io.WriteString(w, answer)
				return
			}
		}
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(page)
}

// join passes an offer on, and puts a path before what answers it.
func (l *Lab) join(ctx context.Context, subject int, offer string) (string, error) {
	s := l.subjects[subject]
	if s.Bare {
		offer = withoutRepairs(offer)
	}
	answer, err := post(ctx, s.Endpoint, anonymous(offer))
	if err != nil {
		return "", err
	}
	to, ok := link.Candidate(answer)
	if !ok {
		return "", fmt.Errorf("%s: the answer has no UDP candidate", s.Name)
	}
	p, err := link.Open(to, l.local, l.seed)
	if err != nil {
		return "", err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paths[s.Name] = p
	l.shape(p)
	l.group.Go(func() { _ = p.Run(l.ctx) })
	return p.Through(answer), nil
}

func post(ctx context.Context, endpoint, offer string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(offer))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/sdp")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil && resp.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s: %s: %s", endpoint, resp.Status, strings.TrimSpace(string(body)))
	}
	return string(body), err
}

// anonymous is an offer without candidates.
func anonymous(offer string) string {
	var out strings.Builder
	for line := range strings.Lines(offer) {
		if !strings.HasPrefix(line, "a=candidate:") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// withoutRepairs is an offer without FlexFEC.
func withoutRepairs(offer string) string {
	before, _, found := strings.Cut(offer, " flexfec-03/90000")
	if !found {
		return offer
	}
	pt := before[strings.LastIndex(before, ":")+1:]
	var out strings.Builder
	for line := range strings.Lines(offer) {
		if strings.HasPrefix(line, "m=video") {
			fields := strings.Fields(line)
			formats := slices.DeleteFunc(fields[3:], func(f string) bool { return f == pt })
			line = strings.Join(append(fields[:3], formats...), " ") + "\r\n"
		}
		if !strings.Contains(line, ":"+pt+" ") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// own is an address of this machine that a browser has candidates on: not
// loopback, where there is another.
func own() netip.Addr {
	addrs, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
				return p.Addr()
			}
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}
