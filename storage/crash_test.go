package storage

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// victim saves configurations as fast as it can, and says each rev once it
// is acknowledged. It runs in a process of its own, to be killed.
func victim(dir string) {
	s, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	last, _, _ := s.Config()
	for rev := last.Rev + 1; ; rev++ {
		if err := s.SaveConfig(doc(rev)); err != nil {
			fmt.Println("save:", err)
			os.Exit(1)
		}
		n, err := s.NextConn()
		if err != nil {
			fmt.Println("conn:", err)
			os.Exit(1)
		}
		fmt.Println(rev, n)
	}
}

func TestKillWhileSaving(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	var total uint64
	for round := range rounds {
		// Each round dies after another number of saves; the first ones die
		// during creation.
		acked, conn := killAfter(t, exe, dir, round/2)
		s := open(t, dir)
		got, ok, err := s.Config()
		if err != nil || acked > 0 && (!ok || got.Rev < acked) {
			t.Fatalf("round %d: rev %d (%v, %v), acknowledged %d; report %q", round, got.Rev, ok, err, acked, s.Report())
		}
		if ok {
			wantRev(t, s, got.Rev)
		}
		if len(s.Report()) != 0 {
			t.Errorf("round %d: healed %q", round, s.Report())
		}
		if n, err := s.NextConn(); err != nil || n <= conn {
			t.Fatalf("round %d: connection %d after %d: %v", round, n, conn, err)
		}
		s.Close()
		total = got.Rev
	}
	if names := corrupts(t, dir); len(names) != 0 {
		t.Errorf("kills made corrupt files: %v", names)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+asideMark+"*")); len(left) > rounds {
		t.Errorf("left aside: %v", left)
	}
	t.Logf("%d saves in %d rounds", total, rounds)
}

// killAfter runs a victim, kills it after n acknowledgements and returns the
// last rev and connection that it got to say.
func killAfter(t *testing.T, exe, dir string, n int) (rev, conn uint64) {
	t.Helper()
	cmd := exec.Command(exe, "-test.run=^$")
	cmd.Env = append(os.Environ(), "EDGED_STORAGE_VICTIM="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		cmd.Process.Kill()
	}
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		var r, c uint64
		if _, err := fmt.Sscan(lines.Text(), &r, &c); err != nil {
			t.Errorf("victim says %q", lines.Text())
			continue
		}
		if i%2 == 0 && c == 0 {
			t.Errorf("victim's connection %s", strconv.FormatUint(c, 10))
		}
		rev, conn = r, c
		if i == n {
			cmd.Process.Kill()
		}
	}
	cmd.Wait() // "signal: killed"
	return rev, conn
}
