package guest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// machine is a processor that guests have, as Debian calls it.
type machine struct {
	arch    string
	qemu    []string // command, with the machine's own options
	console string
	gcc     string // compiles for it
	foreign bool   // this machine is none
}

var machines = map[string]machine{
	"amd64": {
		arch: "amd64", console: "ttyS0", gcc: "gcc-12",
		qemu: []string{"qemu-system-x86_64", "-cpu", "max"},
	},
	"arm64": {
		arch: "arm64", console: "ttyAMA0", gcc: "aarch64-linux-gnu-gcc-12", foreign: true,
		qemu: []string{"qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72"},
	},
}

// debian fetches packages of one architecture. It installs nothing.
type debian struct {
	arch string
	env  []string
}

// here are the packages of this machine.
func here() debian { return debian{arch: "amd64", env: os.Environ()} }

// packages makes ready what lists the packages of a machine: this system's
// apt, or, where the machine is foreign to it, lists of its own below cache.
func packages(ctx context.Context, m machine, cache string) (debian, error) {
	if !m.foreign {
		return here(), nil
	}
	d := debian{arch: m.arch, env: os.Environ()}
	root := filepath.Join(cache, "apt-"+m.arch)
	for _, dir := range []string{"state", "lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return d, err
		}
	}
	conf := filepath.Join(root, "apt.conf")
	text := fmt.Sprintf("APT::Architecture %[1]q;\nAPT::Architectures {%[1]q;};\nDir::State \"%[2]s/state\";\nDir::State::Lists \"%[2]s/lists\";\nDir::State::status \"%[2]s/status\";\nDir::Cache \"%[2]s/cache\";\n", m.arch, root)
	for name, b := range map[string]string{conf: text, filepath.Join(root, "status"): ""} {
		if err := os.WriteFile(name, []byte(b), 0o644); err != nil {
			return d, err
		}
	}
	d.env = append(d.env, "APT_CONFIG="+conf)
	_, err := d.run(ctx, "", "apt-get", "update", "-q")
	return d, err
}

func (d debian) run(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, d.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// stands finds the package that another one stands for: the newest kernel.
func (d debian) stands(ctx context.Context, meta string) (string, error) {
	out, err := d.run(ctx, "", "apt-cache", "depends", meta)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: "); ok {
			return name, nil
		}
	}
	return "", fmt.Errorf("%s names no package: apt-get update has not been run", meta)
}

// fetch downloads a package into dir and returns its path.
func (d debian) fetch(ctx context.Context, dir, name string) (string, error) {
	if _, err := d.run(ctx, dir, "apt-get", "download", "-q", name); err != nil {
		return "", err
	}
	bare, _, _ := strings.Cut(name, ":")
	debs, err := filepath.Glob(filepath.Join(dir, bare+"_*.deb"))
	if err != nil || len(debs) == 0 {
		return "", fmt.Errorf("apt-get download %s: no package came, %w", name, err)
	}
	return debs[len(debs)-1], nil
}

// unpackInto fetches packages and unpacks them into dir, one over the other.
func (d debian) unpackInto(ctx context.Context, dir string, names ...string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		deb, err := d.fetch(ctx, dir, name)
		if err != nil {
			return err
		}
		if _, err := d.run(ctx, "", "dpkg-deb", "-x", deb, dir); err != nil {
			return err
		}
	}
	return nil
}
