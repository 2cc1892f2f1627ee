package rpicam

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"edged/capture"
)

// timesPath is where the program writes the time of each frame that it has
// written: the first descriptor after the standard ones.
const timesPath = "/dev/fd/3"

// grace is what the program is given to give the camera back.
const grace = 700 * time.Millisecond

// tool is the program, running.
type tool struct {
	name  string
	out   *os.File // what it writes
	times *os.File // a line after each frame; nil where none were asked for
	cmd   *exec.Cmd
	said  tail
	ended chan struct{}
	err   error // of cmd.Wait, once ended is closed
	quit  context.CancelFunc

	readers sync.WaitGroup // of the pipes, besides who called start
}

// start runs the first of the programs that is installed, in a group of
// processes of its own. stop must be called. The group is ended when ctx is
// done, and then reads end.
func start(ctx context.Context, programs, args []string, times bool) (*tool, error) {
	path := ""
	for _, p := range programs {
		if found, err := exec.LookPath(p); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		return nil, capture.Errorf(capture.CodeNotFound, "%s is not installed", strings.Join(programs, " or "))
	}
	t := &tool{name: path[strings.LastIndexByte(path, '/')+1:], cmd: exec.Command(path, args...), ended: make(chan struct{})}
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	t.cmd.Stderr = &t.said
	t.cmd.WaitDelay = grace // of a child that keeps stderr open
	theirs, err := t.pipes(times)
	if err == nil {
		err = t.cmd.Start()
	}
	for _, f := range theirs {
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.closePipes()
		return nil, capture.Errorf(capture.CodeDenied, "%s: %w", t.name, err)
	}
	ctx, t.quit = context.WithCancel(ctx)
	go t.watch(ctx)
	return t, nil
}

// pipes makes what the program writes to, and returns its ends.
func (t *tool) pipes(times bool) (theirs []*os.File, err error) {
	var w *os.File
	if t.out, w, err = os.Pipe(); err != nil {
		return nil, err
	}
	t.cmd.Stdout = w
	theirs = append(theirs, w)
	if times {
		if t.times, w, err = os.Pipe(); err != nil {
			return theirs, err
		}
		t.cmd.ExtraFiles = []*os.File{w}
		theirs = append(theirs, w)
	}
	return theirs, nil
}

func (t *tool) closePipes() {
	for _, f := range []*os.File{t.out, t.times} {
		if f != nil {
			_ = f.Close() // only read from
		}
	}
}

// watch waits for the program's end, or ends it: first asking, then not.
func (t *tool) watch(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
		case <-done:
			return
		}
		t.signal(syscall.SIGTERM)
		late := time.NewTimer(grace)
		defer late.Stop()
		select {
		case <-late.C:
			t.signal(syscall.SIGKILL)
		case <-done:
		}
	}()
	t.err = t.cmd.Wait()
	close(done)
	t.signal(syscall.SIGKILL) // what it has left behind
	close(t.ended)
}

func (t *tool) signal(s syscall.Signal) {
	_ = syscall.Kill(-t.cmd.Process.Pid, s) // ESRCH: none is left
}

// await gives a program whose output has ended the time to end as well, and
// to say why.
func (t *tool) await() {
	late := time.NewTimer(grace)
	defer late.Stop()
	select {
	case <-t.ended:
	case <-late.C:
	}
}

// stop ends the program and returns when it and all readers have ended.
func (t *tool) stop() {
	t.quit()
	t.closePipes() // who reads or writes now is woken
	<-t.ended
	t.readers.Wait()
}

// why says in the program's last words why it ended. It is called after stop.
func (t *tool) why() error {
	last := t.said.last()
	if last == "" {
		last = "it said nothing"
	}
	code := capture.CodeUnplugged
	lower := strings.ToLower(t.said.String())
	switch {
	case strings.Contains(lower, "no cameras available"), strings.Contains(lower, "selected camera is not available"):
		code = capture.CodeNotFound
	case strings.Contains(lower, "failed to acquire camera"), strings.Contains(lower, "in use by another process"), strings.Contains(lower, "resource busy"):
		code = capture.CodeBusy
	case strings.Contains(lower, "permission denied"):
		code = capture.CodeDenied
	}
	how := "ended"
	if t.err != nil {
		how = t.err.Error()
	}
	return capture.Errorf(code, "%s: %s: %s", t.name, how, last)
}

// tail keeps the end of what a program says.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailSize = 4 << 10 // bytes

// Write implements [io.Writer].
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b[max(0, len(b)-tailSize):]...)
	t.b = append(t.b[:0], t.b[max(0, len(t.b)-tailSize):]...)
	return len(b), nil
}

// String is what is kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}

// maxLine is what is shown of a line, in characters.
const maxLine = 200

// last is the last line that says anything, as text that can be shown.
func (t *tail) last() string {
	lines := bytes.FieldsFunc([]byte(t.String()), func(r rune) bool { return r == '\n' || r == '\r' })
	for i := len(lines) - 1; i >= 0; i-- {
		shown := strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f || r == '\uFFFD' {
				return -1
			}
			return r
		}, string(lines[i]))
		if shown = strings.TrimSpace(shown); shown != "" {
			if r := []rune(shown); len(r) > maxLine {
				shown = string(r[:maxLine]) + "…"
			}
			return shown
		}
	}
	return ""
}
