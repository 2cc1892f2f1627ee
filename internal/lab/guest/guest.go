// Package guest boots a small virtual machine with a V4L2 camera and a sound
// card in it: Debian's kernel with its test drivers `vivid` and `snd-aloop`, a
// statically linked busybox, and a folder of this machine mounted at /host. The
// processor is emulated, so it runs wherever QEMU is installed.
package guest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// modules are what the guest loads, besides what they depend on.
var modules = []string{"virtio_pci", "9pnet_virtio", "9p", "vivid", "snd_aloop"}

// Image is a kernel and an initial file system to boot.
type Image struct {
	Kernel string // path of an uncompressed kernel
	Initrd string // path of a cpio archive
}

// Prepare makes the image in cache, or finds it there. It downloads the kernel
// package of this Debian release with apt-get, and installs nothing. busybox is
// the path of a static one.
func Prepare(ctx context.Context, cache, busybox string) (Image, error) {
	cache = filepath.Join(cache, edition())
	image := Image{Kernel: filepath.Join(cache, "vmlinux"), Initrd: filepath.Join(cache, "initrd.cpio")}
	if exists(image.Kernel) && exists(image.Initrd) {
		return image, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Image{}, fmt.Errorf("guest image: %w", err)
	}
	deb, err := download(ctx, cache)
	if err != nil {
		return Image{}, fmt.Errorf("guest image: %w", err)
	}
	k, err := unpack(ctx, deb)
	if err != nil {
		return Image{}, fmt.Errorf("guest image: %s: %w", filepath.Base(deb), err)
	}
	order, err := k.loadOrder(modules)
	if err != nil {
		return Image{}, fmt.Errorf("guest image: %w", err)
	}
	vmlinux, err := uncompress(ctx, k.vmlinuz)
	if err != nil {
		return Image{}, fmt.Errorf("guest image: kernel: %w", err)
	}
	shell, err := os.ReadFile(busybox)
	if err != nil {
		return Image{}, fmt.Errorf("guest image: busybox: %w", err)
	}
	var a archive
	a.folders("bin", "dev", "proc", "sys", "tmp", "host", "modules")
	a.file("bin/busybox", shell, 0o755)
	var load strings.Builder
	for _, m := range order {
		a.file("modules/"+m+".ko", k.modules[m], 0o644)
		fmt.Fprintf(&load, "insmod /modules/%s.ko || echo 'guest: no %s'\n", m, m)
	}
	a.file("init", []byte(fmt.Sprintf(initScript, load.String())), 0o755)
	if err := replace(image.Kernel, vmlinux); err != nil {
		return Image{}, fmt.Errorf("guest image: %w", err)
	}
	if err := replace(image.Initrd, a.bytes()); err != nil {
		return Image{}, fmt.Errorf("guest image: %w", err)
	}
	if err := os.Remove(deb); err != nil {
		return Image{}, fmt.Errorf("guest image: %w", err)
	}
	return image, nil
}

// edition tells images that were made by different recipes apart.
func edition() string {
	sum := sha256.Sum256([]byte(strings.Join(modules, " ") + initScript))
	return hex.EncodeToString(sum[:4])
}

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
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "768",
		"-display", "none", "-serial", "stdio", "-monitor", "none", "-nodefaults", "-no-reboot",
		"-virtfs", "local,path="+folder+",mount_tag=host,security_model=none",
		"-kernel", i.Kernel, "-initrd", i.Initrd, "-append", "console=ttyS0 panic=-1 quiet")
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
