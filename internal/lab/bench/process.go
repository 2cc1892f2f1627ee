package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a program under measurement.
type Process struct {
	cmd   *exec.Cmd
	Stdin io.WriteCloser
	lines chan string // of its standard output; closed at its end

	mu  sync.Mutex
	log bytes.Buffer // the last of its standard error

	also func() error // ends what serves the program from outside; nil: nothing does

	done chan struct{}
	err  error // valid once done is closed
}

// logLimit bounds what is kept of a program's standard error.
const logLimit = 16 << 10

// Start runs a program on one CPU; cpu < 0: on any. It is ended with Stop.
func Start(cpu int, program string, args ...string) (*Process, error) {
	return startWith(cpu, nil, program, args...)
}

// startWith adds variables to the program's environment.
func startWith(cpu int, environment []string, program string, args ...string) (*Process, error) {
	if cpu >= 0 {
		args = append([]string{"-c", strconv.Itoa(cpu), program}, args...)
		program = "taskset" // it replaces itself by the program: the PID is the program's
	}
	p := &Process{cmd: exec.Command(program, args...), lines: make(chan string, 64), done: make(chan struct{})}
	p.cmd.Stderr = p
	p.cmd.Env = append(os.Environ(), environment...)
	var err error
	if p.Stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.wait(stdout)
	return p, nil
}

// wait passes on the output and reaps the program. Lines that nobody reads
// are dropped, so that a talkative program is not held up.
func (p *Process) wait(stdout io.Reader) {
	defer close(p.done)
	in := bufio.NewScanner(stdout)
	in.Buffer(nil, 4<<20)
	for in.Scan() {
		select {
		case p.lines <- in.Text():
		default:
		}
	}
	close(p.lines)
	p.err = p.cmd.Wait()
}

// Write takes the program's standard error.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log.Len()+len(b) > logLimit {
		p.log.Reset()
	}
	p.log.Write(b)
	return len(b), nil
}

// Log is the last of the program's standard error.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// Line waits for a line of output that accept takes.
func (p *Process) Line(ctx context.Context, accept func(line string) bool) (string, error) {
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				<-p.done // its last words are in
				return "", fmt.Errorf("%s ended: %s", p.cmd.Path, strings.TrimSpace(p.Log()))
			}
			if accept(line) {
				return line, nil
			}
		case <-ctx.Done():
			return "", fmt.Errorf("%s: %w", p.cmd.Path, context.Cause(ctx))
		}
	}
}

// Stop closes the input, asks the program to end and, after five seconds,
// kills it. It returns once the program has ended.
func (p *Process) Stop() error {
	_ = p.Stdin.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	<-p.done
	var also error
	if p.also != nil {
		also = p.also()
	}
	if !late.Stop() {
		return errors.Join(fmt.Errorf("%s did not end within 5 s", p.cmd.Path), also)
	}
	if exit := new(exec.ExitError); errors.As(p.err, &exit) && exit.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM {
		return also
	}
	return errors.Join(p.err, also)
}

// CPU is the CPU time, user and system, of all threads so far, to the
// nanosecond: the process's CPU clock (clock_getcpuclockid(3)) tells what
// /proc/PID/stat rounds to 10 ms.
func (p *Process) CPU() (time.Duration, error) {
	const processClock = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|processClock), &t); err != nil {
		return 0, fmt.Errorf("CPU clock of %s: %w", p.cmd.Path, err)
	}
	return time.Duration(t.Nano()), nil
}

// RSS is the resident memory in bytes.
func (p *Process) RSS() (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	return rssOf(string(b))
}

func rssOf(status string) (uint64, error) {
	for line := range strings.Lines(status) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" && f[2] == "kB" {
			kib, err := strconv.ParseUint(f[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("status has no VmRSS")
}

// Machine is the CPU time that all processes have used since boot.
func Machine() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return busyOf(string(b))
}

// busyOf sums what is neither idle nor waiting for I/O (proc(5)); guests are
// counted in user time already. Time stolen by the hypervisor counts: it
// disturbs.
func busyOf(stat string) (time.Duration, error) {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	line, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, errors.New("/proc/stat: no line of all CPUs")
	}
	var ticks uint64
	for i, v := range f[1:9] { // user nice system idle iowait irq softirq steal
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if i != 3 && i != 4 {
			ticks += n
		}
	}
	return time.Duration(ticks) * tick, nil
}
