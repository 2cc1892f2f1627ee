package guest

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// kernel is what was taken out of a kernel package.
type kernel struct {
	vmlinuz []byte
	modules map[string][]byte // by name, with underscores
}

// folders of a kernel package where the modules of the guest and what they
// depend on live.
var moduleFolders = []string{"drivers/media/", "drivers/virtio/", "fs/9p/", "fs/fscache/", "fs/netfs/", "net/9p/", "drivers/base/", "lib/", "sound/"}

// fetchKernel downloads the newest kernel package and takes out of it what
// guests need. release is what the kernel calls itself.
func fetchKernel(ctx context.Context, d debian, dir string) (k *kernel, release string, err error) {
	name, err := d.stands(ctx, "linux-image-"+d.arch)
	if err != nil {
		return nil, "", err
	}
	deb, err := d.fetch(ctx, dir, name)
	if err != nil {
		return nil, "", err
	}
	if k, err = unpack(ctx, deb); err != nil {
		return nil, "", fmt.Errorf("%s: %w", filepath.Base(deb), err)
	}
	return k, strings.TrimPrefix(name, "linux-image-"), os.Remove(deb)
}

// unpack takes the kernel and the modules of moduleFolders out of a package.
func unpack(ctx context.Context, deb string) (*kernel, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	k, err := readPackage(pipe)
	if err != nil {
		cancel()
		return nil, errors.Join(err, cmd.Wait())
	}
	return k, cmd.Wait()
}

func readPackage(r io.Reader) (*kernel, error) {
	k := &kernel{modules: map[string][]byte{}}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		isKernel := strings.HasPrefix(path.Base(h.Name), "vmlinuz-")
		if !isKernel && !wanted(h.Name) {
			continue
		}
		b, err := io.ReadAll(t)
		if err != nil {
			return nil, err
		}
		if isKernel {
			k.vmlinuz = b
		} else {
			k.modules[moduleName(h.Name)] = b
		}
	}
	if k.vmlinuz == nil {
		return nil, errors.New("no kernel in it")
	}
	_, err := io.Copy(io.Discard, r) // the padding, or dpkg-deb ends with SIGPIPE
	return k, err
}

func wanted(name string) bool {
	_, below, ok := strings.Cut(name, "/kernel/")
	return ok && strings.HasSuffix(name, ".ko") &&
		slices.ContainsFunc(moduleFolders, func(f string) bool { return strings.HasPrefix(below, f) })
}

func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(path.Base(file), ".ko"), "-", "_")
}

// loadOrder lists names and what they depend on, so that each comes after what
// it needs.
func (k *kernel) loadOrder(names []string) (order []string, err error) {
	for _, name := range names {
		if slices.Contains(order, name) {
			continue
		}
		b, ok := k.modules[name]
		if !ok {
			return nil, fmt.Errorf("module %s: not in the kernel package's %s", name, strings.Join(moduleFolders, " "))
		}
		needs, err := depends(b)
		if err != nil {
			return nil, fmt.Errorf("module %s: %w", name, err)
		}
		before, err := k.loadOrder(needs)
		if err != nil {
			return nil, fmt.Errorf("module %s: %w", name, err)
		}
		for _, n := range append(before, name) {
			if !slices.Contains(order, n) {
				order = append(order, n)
			}
		}
	}
	return order, nil
}

// depends reads the names of the modules that a module needs from its .modinfo.
func depends(module []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, errors.New("no .modinfo")
	}
	b, err := s.Data()
	if err != nil {
		return nil, err
	}
	for _, field := range strings.Split(string(b), "\x00") {
		if v, ok := strings.CutPrefix(field, "depends="); ok && v != "" {
			return strings.Split(strings.ReplaceAll(v, "-", "_"), ","), nil
		}
	}
	return nil, nil
}

const (
	setupAt  = 0x1F1 // sectors of the real-mode part
	offsetAt = 0x248 // of the payload in the rest
	lengthAt = 0x24C
)

// uncompress takes the ELF kernel out of a bzImage: an emulated processor would
// need seconds for it (Linux's Documentation/arch/x86/boot.rst, payload_offset).
func uncompress(ctx context.Context, vmlinuz []byte) ([]byte, error) {
	if len(vmlinuz) < 0x250 || string(vmlinuz[0x202:0x206]) != "HdrS" {
		return nil, errors.New("not a bzImage")
	}
	from := (int(vmlinuz[setupAt])+1)*512 + int(binary.LittleEndian.Uint32(vmlinuz[offsetAt:]))
	to := from + int(binary.LittleEndian.Uint32(vmlinuz[lengthAt:]))
	if from < 0 || to > len(vmlinuz) || to-from < 8 {
		return nil, errors.New("payload outside of the file")
	}
	payload := vmlinuz[from : to-4] // the last four bytes are the uncompressed size
	var tool []string
	switch {
	case bytes.HasPrefix(payload, []byte("\xFD7zXZ\x00")):
		tool = []string{"xz", "-dc", "--single-stream"}
	case bytes.HasPrefix(payload, []byte("\x28\xB5\x2F\xFD")):
		tool = []string{"zstd", "-dcq"}
	case bytes.HasPrefix(payload, []byte("\x1F\x8B")):
		tool = []string{"gzip", "-dc"}
	default:
		return nil, fmt.Errorf("compressed by something that begins with % x", payload[:4])
	}
	cmd := exec.CommandContext(ctx, tool[0], tool[1:]...)
	cmd.Stdin = bytes.NewReader(payload)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tool[0], err)
	}
	if _, err := elf.NewFile(bytes.NewReader(out)); err != nil {
		return nil, err
	}
	return out, nil
}
