// Package mqtt is the laboratory with a broker that nobody here wrote:
// Debian's Mosquitto, and its own client as the console.
package mqtt

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for something that must happen.
const patience = 30 * time.Second

// Options say how a broker lets clients in. The zero value takes everybody
// and lets them do everything.
type Options struct {
	Passwords   map[string]string // user → password; nil: everybody
	ACL         bool              // a box may publish and receive only below its own topics; user "console" everything
	Users       []User            // by the dynamic-security plugin, in place of Passwords and ACL
	TLS         bool              // with a certificate for localhost
	ClientCerts bool              // with TLS: clients need a certificate
	WebSocket   bool              // URL is ws:// or wss://; watchers use a second port
}

// User is what the dynamic-security plugin grants to one user.
type User struct {
	Name, Password     string
	Publish, Subscribe []string // filters; others are refused
}

// Broker is a Mosquitto that runs until the test ends.
type Broker struct {
	URL                  string // mqtt:// or mqtts://, with host and port
	CA, OtherCA          string // PEM files, with TLS: the right authority, and a wrong one
	ClientCert           string // PEM file
	ClientKey            string // PEM file
	WrongCert, WrongKey  string // PEM files: made by the other authority
	host, port, dir, log string
	console              []string // how mosquitto_sub comes in

	mu      sync.Mutex
	process *exec.Cmd
	ended   chan struct{}
}

// Start starts a broker on a free port of loopback. The test fails where
// Mosquitto is not installed.
func Start(t testing.TB, o Options) *Broker {
	t.Helper()
	b := &Broker{dir: t.TempDir(), host: "localhost"}
	b.log = filepath.Join(b.dir, "mosquitto.log")
	b.port = freePort(t)
	b.URL = "mqtt://" + net.JoinHostPort(b.host, b.port)
	if err := b.configure(o, freePort(t)); err != nil {
		t.Fatalf("mosquitto: %v", err)
	}
	t.Cleanup(func() {
		b.Stop()
		if t.Failed() {
			out, _ := os.ReadFile(b.log)
			t.Logf("mosquitto:\n%s", out[max(0, len(out)-8000):])
		}
	})
	b.Restart(t)
	return b
}

// freePort is a port of loopback on which nobody listens now.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// configure writes the broker's files.
func (b *Broker) configure(o Options, second string) error {
	conf := []string{
		"user root", // stays who it is, so that it can read the test's files
		"allow_anonymous " + strconv.FormatBool(o.Passwords == nil && o.Users == nil),
		"log_dest file " + b.log,
		"log_type all",
	}
	if len(o.Passwords) > 0 {
		file := filepath.Join(b.dir, "passwords")
		var plain strings.Builder
		for user, password := range o.Passwords {
			fmt.Fprintf(&plain, "%s:%s\n", user, password)
		}
		if err := os.WriteFile(file, []byte(plain.String()), 0o600); err != nil {
			return err
		}
		if out, err := exec.Command("mosquitto_passwd", "-U", file).CombinedOutput(); err != nil {
			return fmt.Errorf("mosquitto_passwd: %w: %s", err, out)
		}
		conf = append(conf, "password_file "+file)
		if p, ok := o.Passwords["console"]; ok {
			b.console = append(b.console, "-u", "console", "-P", p)
		}
	}
	if o.ACL {
		file := filepath.Join(b.dir, "acl")
		acl := "pattern write edged/1/+/%c/up/#\npattern read edged/1/+/%c/dn/#\nuser console\ntopic readwrite edged/#\n"
		if err := os.WriteFile(file, []byte(acl), 0o600); err != nil {
			return err
		}
		conf = append(conf, "acl_file "+file)
	}
	if o.Users != nil {
		lines, err := b.dynamicSecurity(o.Users)
		if err != nil {
			return err
		}
		conf = append(conf, lines...)
	}
	var secret []string
	if o.TLS {
		var err error
		if secret, err = b.tls(o.ClientCerts); err != nil {
			return err
		}
	}
	conf = append(append(conf, "listener "+b.port+" 127.0.0.1"), secret...)
	if o.WebSocket {
		conf = append(append(conf, "listener "+second+" 127.0.0.1", "protocol websockets"), secret...)
		b.URL = strings.Replace(b.URL, "mqtt", "ws", 1)
		b.URL = strings.Replace(b.URL, ":"+b.port, ":"+second, 1)
	}
	return os.WriteFile(filepath.Join(b.dir, "mosquitto.conf"), []byte(strings.Join(conf, "\n")+"\n"), 0o600)
}

// Restart starts the broker, after stopping it where it runs, on the same
// port, and returns when it takes connections.
func (b *Broker) Restart(t testing.TB) {
	t.Helper()
	b.Stop()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // not on everybody's PATH
	}
	c := exec.Command(path, "-c", filepath.Join(b.dir, "mosquitto.conf"))
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = c.Wait()
		close(ended)
	}()
	b.mu.Lock()
	b.process, b.ended = c, ended
	b.mu.Unlock()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", b.port))
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-ended:
			log, _ := os.ReadFile(b.log)
			t.Fatalf("mosquitto ended: %s%s", out.Bytes(), log)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("mosquitto takes no connections")
		}
	}
}

// Stop stops the broker, if it runs.
func (b *Broker) Stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.process == nil {
		return
	}
	_ = b.process.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.ended:
	case <-time.After(5 * time.Second):
		_ = b.process.Process.Kill()
		<-b.ended
	}
	b.process = nil
}

// Message is what a watcher saw.
type Message struct {
	Topic   string
	Payload []byte
	Retain  bool // kept from before the watcher came
}

// Watcher is mosquitto_sub on one filter.
type Watcher struct {
	t    testing.TB
	seen chan Message
}

// Watch subscribes to a filter until the test ends; it returns when the
// subscription is granted. With a password file it comes in as "console".
func (b *Broker) Watch(t testing.TB, filter string) *Watcher {
	t.Helper()
	args := []string{"-oL", "mosquitto_sub"} // line by line, though it writes to a pipe
	args = append(args, "-h", b.host, "-p", b.port, "-V", "mqttv311", "-q", "1", "-t", filter, "-F", "%r %t %x", "-d")
	args = append(args, b.console...)
	if b.CA != "" {
		args = append(args, "--cafile", b.CA, "--cert", b.ClientCert, "--key", b.ClientKey)
	}
	c := exec.Command("stdbuf", args...)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = c.Stdout
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w := &Watcher{t: t, seen: make(chan Message, 10_000)}
	granted, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		w.read(bufio.NewScanner(out), sync.OnceFunc(func() { close(granted) }))
		_ = c.Wait()
	}()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		<-ended
	})
	select {
	case <-granted:
	case <-ended:
		t.Fatalf("mosquitto_sub ended before its subscription")
	case <-time.After(patience):
		t.Fatalf("no subscription to %s", filter)
	}
	return w
}

// read takes mosquitto_sub's output apart: messages, among its own remarks.
func (w *Watcher) read(s *bufio.Scanner, granted func()) {
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if strings.HasPrefix(s.Text(), "Subscribed (mid:") {
			granted()
		}
		f := strings.Split(s.Text(), " ")
		if len(f) != 3 || (f[0] != "0" && f[0] != "1") {
			continue
		}
		payload, err := hex.DecodeString(f[2])
		if err != nil {
			continue
		}
		w.seen <- Message{Topic: f[1], Payload: payload, Retain: f[0] == "1"}
	}
}

// Next returns the next message whose topic ends with suffix.
func (w *Watcher) Next(suffix string) Message {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case m := <-w.seen:
			if strings.HasSuffix(m.Topic, suffix) {
				return m
			}
		case <-deadline:
			w.t.Fatalf("no message on …%s", suffix)
		}
	}
}

// Publish publishes a message with mosquitto_pub, as a console would.
func (b *Broker) Publish(t testing.TB, topic string, payload []byte, retain bool) {
	t.Helper()
	args := slices.Concat([]string{"-h", b.host, "-p", b.port, "-V", "mqttv311", "-q", "1", "-t", topic, "-s"}, b.console)
	if retain {
		args = append(args, "-r")
	}
	if b.CA != "" {
		args = append(args, "--cafile", b.CA, "--cert", b.ClientCert, "--key", b.ClientKey)
	}
	c := exec.Command("mosquitto_pub", args...)
	c.Stdin = bytes.NewReader(payload)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub: %v: %s", err, out)
	}
}

// Logged says whether the broker's log has a text.
func (b *Broker) Logged(text string) bool {
	out, err := os.ReadFile(b.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false
	}
	return bytes.Contains(out, []byte(text))
}
