package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"edged/internal/lab/bench"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
)

// A line asks, a line answers, and the end of the input ends the program,
// viewers that were refused included.
func TestViewersProtocol(t *testing.T) {
	defer goleak.VerifyNone(t)
	refuse := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "box full", http.StatusServiceUnavailable)
	}))
	defer refuse.Close()
	defer http.DefaultClient.CloseIdleConnections()
	stdin, ask := io.Pipe()
	answers, stdout := io.Pipe()
	var group errgroup.Group
	group.Go(func() error {
		return run(t.Context(), []string{"-url", refuse.URL, "-n", "2", "-rate", "100"}, stdin, stdout)
	})
	lines := bufio.NewScanner(answers)
	var s bench.Snapshot
	for len(s.Failures) < 2 {
		if _, err := io.WriteString(ask, "\n"); err != nil {
			t.Fatal(err)
		}
		if !lines.Scan() {
			t.Fatal("no answer")
		}
		s = bench.Snapshot{}
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := s.Failures[0], "viewer: 503 Service Unavailable: box full"; got != want {
		t.Errorf("failure %q, want %q", got, want)
	}
	if len(s.Viewers) != 2 || len(s.Joined) != 0 {
		t.Errorf("snapshot %+v", s)
	}
	_ = ask.Close()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

func TestViewersRefusesArguments(t *testing.T) {
	for _, args := range [][]string{nil, {"-url", "http://h/", "-n", "0"}, {"-what"}} {
		if run(t.Context(), args, nil, io.Discard) == nil {
			t.Errorf("%v were taken", args)
		}
	}
}
