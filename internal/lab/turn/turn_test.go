// Package turn is the laboratory for the TURN server: coturn's own clients, as
// Debian packages them, against the relay of this box.
package turn

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"edged/turn"
)

const secret = "a-secret-of-the-laboratory"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestUclient: all messages come back, by channels and by Send indications,
// over IPv4 and IPv6, and with the port pairs of RFC 5766.
func TestUclient(t *testing.T) {
	t.Parallel() // it waits for stragglers at the end of each run
	uclient := tool(t, "turnutils_uclient")
	for _, tt := range []struct {
		name, listen, host string
		flags              []string
		messages           int
	}{
		{"channels", "127.0.0.1:0", "127.0.0.1", []string{"-c"}, 80},
		{"send indications", "127.0.0.1:0", "127.0.0.1", []string{"-c", "-s"}, 80},
		{"wildcard listener", ":0", "127.0.0.1", []string{"-c"}, 80},
		{"IPv6 client", "[::1]:0", "::1", []string{"-c"}, 80},
		{"large messages", "127.0.0.1:0", "127.0.0.1", []string{"-c", "-l", "1200"}, 80},
		{"mandatory padding", "127.0.0.1:0", "127.0.0.1", []string{"-c", "-D"}, 80},
		{"origin", "127.0.0.1:0", "127.0.0.1", []string{"-c", "-o", "edged"}, 80},
		{"random disconnect", "127.0.0.1:0", "127.0.0.1", []string{"-c", "-B"}, 80},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sfu := echo(t)
			r := start(t, tt.listen, sfu)
			args := append([]string{"-u", "viewer", "-W", secret, "-e", "127.0.0.1", "-r", port(sfu.Port()),
				"-n", "20", "-m", "4", "-z", "5", "-p", port(r.Port())}, tt.flags...)
			out := run(t, uclient, append(args, tt.host)...)
			sent, received, lost := totals(t, out)
			if sent != tt.messages || received != tt.messages || lost != 0 {
				t.Errorf("sent %d, received %d, lost %d:\n%s", sent, received, lost, out)
			}
			if s := r.Stats(); s.RelayedIn == 0 || s.RelayedIn != s.RelayedOut || s.DeniedPeers != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// TestUclientRefused: a wrong secret and a peer that is not the SFU.
func TestUclientRefused(t *testing.T) {
	t.Parallel()
	uclient := tool(t, "turnutils_uclient")
	sfu, other := echo(t), echo(t)
	r := start(t, "127.0.0.1:0", sfu)
	common := []string{"-u", "viewer", "-c", "-n", "5", "-m", "1", "-z", "5", "-p", port(r.Port()), "-e", "127.0.0.1"}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := append(append([]string(nil), common...), "-W", "another", "-r", port(sfu.Port()), "127.0.0.1")
	if out, err := exec.CommandContext(ctx, uclient, args...).CombinedOutput(); err == nil {
		t.Errorf("a wrong secret is let in:\n%s", out)
	}
	args = append(append([]string(nil), common...), "-W", secret, "-r", port(other.Port()), "127.0.0.1")
	if out, err := exec.CommandContext(ctx, uclient, args...).CombinedOutput(); err == nil {
		t.Errorf("another port of the SFU's address is let in:\n%s", out)
	}
	if s := r.Stats(); s.RelayedIn != 0 || s.AuthFailures == 0 || s.DeniedPeers == 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestStunclient(t *testing.T) {
	stunclient := tool(t, "turnutils_stunclient")
	r := start(t, "127.0.0.1:0", echo(t))
	out := run(t, stunclient, "-p", port(r.Port()), "127.0.0.1")
	if !regexp.MustCompile(`reflexive addr: 127\.0\.0\.1:\d+`).Match(out) {
		t.Errorf("no reflexive address:\n%s", out)
	}
}

func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: scripts/setup installs it", err)
	}
	return path
}

func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return out
}

var (
	totalLine = regexp.MustCompile(`tot_send_msgs=(\d+), tot_recv_msgs=(\d+)`)
	lostLine  = regexp.MustCompile(`Total lost packets (\d+)`)
)

// totals reads uclient's last report.
func totals(t *testing.T, out []byte) (sent, received, lost int) {
	t.Helper()
	all, lines := totalLine.FindAllSubmatch(out, -1), lostLine.FindAllSubmatch(out, -1)
	if len(all) == 0 || len(lines) == 0 {
		t.Fatalf("no report:\n%s", out)
	}
	last := all[len(all)-1]
	return number(t, last[1]), number(t, last[2]), number(t, lines[len(lines)-1][1])
}

func number(t *testing.T, b []byte) int {
	t.Helper()
	n, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func port(p uint16) string { return strconv.Itoa(int(p)) }

func start(t *testing.T, listen string, sfu netip.AddrPort) *turn.Relay {
	t.Helper()
	cfg := turn.Config{Enabled: true, Listen: listen, Realm: "edged", MaxAllocations: 64, PerUser: 16}
	r, err := turn.New(cfg, []byte(secret), func() []netip.AddrPort {
		return []netip.AddrPort{sfu, netip.AddrPortFrom(sfu.Addr(), sfu.Port()+1)}
	}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case <-r.Ready():
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	return r
}

// echo plays the SFU, on two ports: uclient binds a channel to the port after
// its peer's too, also when it is told to leave RTCP alone, and gives up where
// that is refused.
func echo(t *testing.T) netip.AddrPort {
	t.Helper()
	for range 100 {
		first, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		ap := first.LocalAddr().(*net.UDPAddr).AddrPort()
		second, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(ap.Port()) + 1})
		if err != nil {
			first.Close()
			continue
		}
		reply(t, first)
		reply(t, second)
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	t.Fatal("no two ports in a row are free")
	return netip.AddrPort{}
}

func reply(t *testing.T, conn *net.UDPConn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 2048)
		for {
			n, src, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if _, err := conn.WriteToUDPAddrPort(b[:n], src); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
}
