// Package guest boots a small virtual machine that has V4L2 cameras and a sound
// card: Debian's kernel with its test drivers `vivid` and `snd-aloop` and with
// `v4l2loopback`, a statically linked busybox, and a folder of this machine
// mounted at /host. The processor is emulated, so it runs wherever QEMU is
// installed.
package guest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// modules are what the guest loads as it boots; loadable what it has for the
// command "load NAME [PARAMETER=VALUE …]", which takes out one that is in.
// What they depend on comes with them. v4l2loopback is built; the others are
// Debian's.
var (
	modules  = []string{"virtio_pci", "9pnet_virtio", "9p", "vivid", "snd_aloop"}
	loadable = []string{"vivid", "v4l2loopback"}
)

// Image is a kernel and an initial file system to boot.
type Image struct {
	Kernel  string // path of an uncompressed kernel
	Initrd  string // path of a cpio archive
	machine machine
}

// Prepare makes the image for "amd64" or "arm64" in cache, or finds it there.
// It downloads packages of this Debian release with apt-get, and installs
// nothing.
func Prepare(ctx context.Context, cache, arch string) (Image, error) {
	m, ok := machines[arch]
	if !ok {
		return Image{}, fmt.Errorf("guest image: no machine %q", arch)
	}
	folder := filepath.Join(cache, arch+"-"+edition())
	image := Image{Kernel: filepath.Join(folder, "vmlinux"), Initrd: filepath.Join(folder, "initrd.cpio"), machine: m}
	if exists(image.Kernel) && exists(image.Initrd) {
		return image, nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return Image{}, fmt.Errorf("guest image: %w", err)
	}
	if err := image.make(ctx, cache); err != nil {
		return Image{}, fmt.Errorf("guest image: %w", err)
	}
	return image, nil
}

func (i Image) make(ctx context.Context, cache string) error {
	d, err := packages(ctx, i.machine, cache)
	if err != nil {
		return err
	}
	k, release, err := fetchKernel(ctx, d, cache)
	if err != nil {
		return err
	}
	built, err := loopback(ctx, i.machine, d, release, cache)
	if err != nil {
		return err
	}
	maps.Copy(k.modules, built)
	shell, err := busybox(ctx, i.machine, d, cache)
	if err != nil {
		return err
	}
	initrd, err := pack(k, shell)
	if err != nil {
		return err
	}
	vmlinux := k.vmlinuz // of arm64: not compressed
	if i.machine.arch == "amd64" {
		if vmlinux, err = uncompress(ctx, vmlinux); err != nil {
			return fmt.Errorf("kernel: %w", err)
		}
	}
	if err := replace(i.Kernel, vmlinux); err != nil {
		return err
	}
	return replace(i.Initrd, initrd)
}

// pack makes the initial file system.
func pack(k *kernel, shell []byte) ([]byte, error) {
	var a archive
	a.folders("bin", "dev", "proc", "sys", "tmp", "host", "modules")
	a.file("bin/busybox", shell, 0o755)
	a.file("bin/load", []byte(loadScript), 0o755)
	boot, err := k.loadOrder(modules)
	if err != nil {
		return nil, err
	}
	all := slices.Clone(boot)
	for _, name := range loadable {
		order, err := k.loadOrder([]string{name})
		if err != nil {
			return nil, err
		}
		a.file("modules/"+name+".order", []byte(strings.Join(order[:len(order)-1], "\n")), 0o644)
		all = append(all, order...)
	}
	slices.Sort(all)
	for _, m := range slices.Compact(all) {
		a.file("modules/"+m+".ko", k.modules[m], 0o644)
	}
	var load strings.Builder
	for _, m := range boot {
		fmt.Fprintf(&load, "insmod /modules/%s.ko || echo 'guest: no %s'\n", m, m)
	}
	a.file("init", []byte(fmt.Sprintf(initScript, load.String())), 0o755)
	return a.bytes(), nil
}

// busybox finds a static one: this system's, or that of a foreign machine.
func busybox(ctx context.Context, m machine, d debian, cache string) ([]byte, error) {
	name, err := "", error(nil)
	if !m.foreign {
		if name, err = exec.LookPath("busybox"); err != nil {
			return nil, fmt.Errorf("%w: scripts/setup installs it", err)
		}
		return os.ReadFile(name)
	}
	tree := filepath.Join(cache, "busybox-"+m.arch)
	if name = filepath.Join(tree, "bin/busybox"); !exists(name) {
		if err := d.unpackInto(ctx, tree, "busybox-static"); err != nil {
			return nil, err
		}
	}
	return os.ReadFile(name)
}

// edition tells images that were made by different recipes apart.
func edition() string {
	sum := sha256.Sum256([]byte(strings.Join(modules, " ") + strings.Join(loadable, " ") + initScript + loadScript))
	return hex.EncodeToString(sum[:4])
}

const loadScript = `#!/bin/sh
name=$1
shift
! [ -d /sys/module/$name ] || rmmod $name || exit
for m in $(cat /modules/$name.order); do
	[ -d /sys/module/$m ] || insmod /modules/$m.ko || exit
done
insmod /modules/$name.ko "$@"
`

const initScript = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp TMPDIR=/tmp
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
%sip link set lo up
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 host /host || poweroff -f
cd /host
sh ./run.sh >output 2>&1
echo $? >status
sync
poweroff -f
`

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// replace writes a file as a whole or not at all.
func replace(path string, b []byte) error {
	if err := os.WriteFile(path+".new", b, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Run boots the image with folder mounted, runs run.sh of that folder in it and
// returns what it printed. The error is that of the script's status, or of a
// guest that did not come to an end before ctx's.
func (i Image) Run(ctx context.Context, folder string) (output string, err error) {
	qemu := i.machine.qemu
	args := append(slices.Clone(qemu[1:]), "-accel", "tcg,thread=multi", "-smp", "2", "-m", "768",
		"-display", "none", "-serial", "stdio", "-monitor", "none", "-nodefaults", "-no-reboot",
		"-virtfs", "local,path="+folder+",mount_tag=host,security_model=none",
		"-kernel", i.Kernel, "-initrd", i.Initrd, "-append", "console="+i.machine.console+" panic=-1 quiet")
	cmd := exec.CommandContext(ctx, qemu[0], args...)
	console, err := cmd.CombinedOutput()
	b, _ := os.ReadFile(filepath.Join(folder, "output")) // where it is not there, status is not either
	if err != nil {
		return string(b), fmt.Errorf("guest: %w, console: %s", errors.Join(err, ctx.Err()), console)
	}
	status, err := os.ReadFile(filepath.Join(folder, "status"))
	if err != nil {
		return string(b), fmt.Errorf("guest: no status, console: %s", console)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(status)))
	if err != nil || n != 0 {
		return string(b), fmt.Errorf("guest: run.sh ended with status %q", strings.TrimSpace(string(status)))
	}
	return string(b), nil
}
