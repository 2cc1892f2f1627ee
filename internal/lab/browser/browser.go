// Package browser is the laboratory's viewer: real browsers, headless, driven
// by a small script of node's.
package browser

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	_ "image/png" // what browsers make screenshots in
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Kind is a browser.
type Kind string

// The browsers, by the names that the driver gives them.
const (
	Chromium Kind = "chrome"
	Firefox  Kind = "firefox"
)

// programs are where Debian has the browsers.
var programs = map[Kind][]string{
	Chromium: {"chromium", "google-chrome"},
	Firefox:  {"firefox-esr", "firefox"},
}

// Options of a [Page].
type Options struct {
	Kind          Kind // Chromium, where empty
	Width, Height int  // of the window in CSS pixels; 1280 × 800 where zero
	Dark          bool // prefers a dark colour scheme (Chromium only)
	Camera        bool // has a camera and a microphone that are not real, and lets pages use them (Chromium only)
}

// Page is a browser with one page. Its methods block until the browser has
// done what they ask, and are called from one goroutine at a time.
type Page struct {
	Version string // of the browser

	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
	log   bytes.Buffer // the script's standard error
}

// Launch starts a browser; ctx ends it. What is not installed is an error
// that says how to install it.
func Launch(ctx context.Context, o Options) (*Page, error) {
	if o.Kind == "" {
		o.Kind = Chromium
	}
	if o.Width == 0 || o.Height == 0 {
		o.Width, o.Height = 1280, 800
	}
	program, err := find(programs[o.Kind])
	if err != nil {
		return nil, err
	}
	script, err := driver(ctx)
	if err != nil {
		return nil, err
	}
	p := &Page{cmd: exec.CommandContext(ctx, "node", script)}
	p.cmd.Stderr = &p.log
	p.cmd.WaitDelay = 5 * time.Second
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("browser driver: %w", err)
	}
	err = p.ask(command{Op: "launch", Browser: o.Kind, Path: program, Width: o.Width, Height: o.Height, Dark: o.Dark, Camera: o.Camera}, &p.Version)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Open is Launch for the length of a test, which fails where it fails.
func Open(t testing.TB, o Options) *Page {
	t.Helper()
	p, err := Launch(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			said, _ := p.Said() // the page may have gone; the test has failed already
			t.Logf("the page said: %s", strings.Join(said, "\n"))
		}
		if err := p.Close(); err != nil {
			t.Errorf("close the browser: %v", err)
		}
	})
	return p
}

// Close ends the browser and returns when it has ended.
func (p *Page) Close() error {
	_ = p.stdin.Close()
	late := time.AfterFunc(15*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("browser driver: %w: %s", err, p.log.String())
	}
	return nil
}

// Goto loads a page.
func (p *Page) Goto(url string) error { return p.ask(command{Op: "goto", URL: url}, nil) }

// Eval evaluates an expression of JavaScript in the page and unmarshals its
// value, awaited where it is a promise, into out, unless that is nil.
func (p *Page) Eval(out any, expression string) error {
	return p.ask(command{Op: "eval", Code: expression}, out)
}

// Wait waits until an expression is true, at most for limit.
func (p *Page) Wait(expression string, limit time.Duration) error {
	return p.ask(command{Op: "wait", Code: expression, Millis: limit.Milliseconds()}, nil)
}

// Click clicks the element that a CSS selector finds.
func (p *Page) Click(selector string) error { return p.ask(command{Op: "click", Code: selector}, nil) }

// Key presses a key, named as in KeyboardEvent.key.
func (p *Page) Key(name string) error { return p.ask(command{Op: "key", Code: name}, nil) }

// Type writes text into the element that has the focus.
func (p *Page) Type(text string) error { return p.ask(command{Op: "type", Code: text}, nil) }

// Loss has the browser lose so many of a hundred packets of its peer
// connections (Chromium only). It takes effect on those that are made after
// its first call.
func (p *Page) Loss(percent int) error { return p.ask(command{Op: "loss", Percent: percent}, nil) }

// Hide brings another tab before the page's, or the page's before the other.
func (p *Page) Hide(hidden bool) error { return p.ask(command{Op: "hide", Hidden: hidden}, nil) }

// Said is what the page wrote to its console, and its uncaught errors, which
// begin with "uncaught: ".
func (p *Page) Said() (said []string, err error) {
	err = p.ask(command{Op: "said"}, &said)
	return said, err
}

// Screenshot takes a picture of the element that a CSS selector finds, or of
// the window where the selector is empty; png is the same as a file.
func (p *Page) Screenshot(selector string) (img image.Image, png []byte, err error) {
	if err := p.ask(command{Op: "shot", Code: selector}, &png); err != nil {
		return nil, nil, err
	}
	if img, _, err = image.Decode(bytes.NewReader(png)); err != nil {
		return nil, nil, fmt.Errorf("screenshot: %w", err)
	}
	return img, png, nil
}

// command is one line to the driver.
type command struct {
	Op      string `json:"op"`
	Browser Kind   `json:"browser,omitempty"`
	Path    string `json:"path,omitempty"`
	Width   int    `json:"width,omitempty"`
	Height  int    `json:"height,omitempty"`
	Dark    bool   `json:"dark,omitempty"`
	Camera  bool   `json:"camera,omitempty"`
	URL     string `json:"url,omitempty"`
	Code    string `json:"code,omitempty"`
	Millis  int64  `json:"ms,omitempty"`
	Percent int    `json:"percent"`
	Hidden  bool   `json:"hidden"`
}

func (p *Page) ask(c command, out any) error {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("browser driver: %w: %s", err, p.log.String())
	}
	if line, err = p.out.ReadBytes('\n'); err != nil {
		return fmt.Errorf("browser driver: %w: %s", err, p.log.String())
	}
	var answer struct {
		Value json.RawMessage `json:"value"`
		Error string          `json:"error"`
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return fmt.Errorf("browser driver: %w", err)
	}
	if answer.Error != "" {
		return fmt.Errorf("browser: %s %s: %s", c.Op, c.Code, answer.Error)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer.Value, out); err != nil {
		return fmt.Errorf("browser: value of %s: %w", c.Code, err)
	}
	return nil
}

func find(names []string) (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no %s: run scripts/setup", names[0])
}

// driver is the path of the script, beside which its modules are installed.
func driver(ctx context.Context) (string, error) {
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("browser driver: %w", err)
	}
	dir := filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "internal", "lab", "browser")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "puppeteer-core")); errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("the browser driver's modules are not installed: run scripts/setup")
	}
	return filepath.Join(dir, "drive.mjs"), nil
}
