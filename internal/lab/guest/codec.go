package guest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// codecModules are vicodec, the kernel's virtual stateful codec, and what it
// stands on. Debian's kernels have neither: they are built from the source of
// the same version.
var codecModules = []string{"v4l2-mem2mem", "vicodec"}

const codecMakefile = `obj-m := vicodec.o v4l2-mem2mem.o
vicodec-y := vicodec-core.o codec-fwht.o codec-v4l2-fwht.o
`

var kernelVersion = regexp.MustCompile(`Linux version ((\d+\.\d+)\.\S*-amd64) `)

// CodecModules builds the modules of a virtual codec for the image's kernel,
// in cache, or finds them there. They are to be loaded in the order returned,
// after vivid. It downloads packages with apt-get, and installs nothing.
func (i Image) CodecModules(ctx context.Context, cache string) (paths []string, err error) {
	vmlinux, err := os.ReadFile(i.Kernel)
	if err != nil {
		return nil, fmt.Errorf("codec modules: %w", err)
	}
	version := kernelVersion.FindSubmatch(vmlinux)
	if version == nil {
		return nil, errors.New("codec modules: the kernel does not say its version")
	}
	release, series := string(version[1]), string(version[2])
	dir := filepath.Join(cache, "modules-"+release)
	for _, m := range codecModules {
		paths = append(paths, filepath.Join(dir, m+".ko"))
	}
	if exists(paths[0]) && exists(paths[1]) {
		return paths, nil
	}
	work, err := os.MkdirTemp(cache, "modules-")
	if err != nil {
		return nil, fmt.Errorf("codec modules: %w", err)
	}
	defer os.RemoveAll(work)
	built, err := buildCodec(ctx, work, cache, release, series)
	if err != nil {
		return nil, fmt.Errorf("codec modules: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("codec modules: %w", err)
	}
	for n, m := range codecModules {
		b, ok := built[moduleName(m)]
		if !ok {
			return nil, fmt.Errorf("codec modules: %s was not built", m)
		}
		if err := replace(paths[n], b); err != nil {
			return nil, fmt.Errorf("codec modules: %w", err)
		}
	}
	return paths, nil
}

// buildCodec builds the modules for a kernel, in work, and returns them by
// name.
func buildCodec(ctx context.Context, work, cache, release, series string) (map[string][]byte, error) {
	m := machines["amd64"]
	tree, err := headers(ctx, m, here(), release, cache)
	if err != nil {
		return nil, err
	}
	deb, err := here().fetch(ctx, work, "linux-source-"+series)
	if err != nil {
		return nil, err
	}
	source := filepath.Join(work, "source")
	if err := unpackCodec(ctx, deb, source); err != nil {
		return nil, err
	}
	return compile(ctx, m, tree, release, source)
}

// unpackCodec takes the sources of the modules out of the package of the
// kernel's: a compressed archive within an archive.
func unpackCodec(ctx context.Context, deb, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "Makefile"), []byte(codecMakefile), 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c",
		`dpkg-deb --fsys-tarfile "$1" | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' | xz -dc`, "sh", deb)
	var said bytes.Buffer
	cmd.Stderr = &said
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = readSources(pipe, dir)
	_, copied := io.Copy(io.Discard, pipe)
	if err := errors.Join(err, copied, cmd.Wait()); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(deb), err, said.Bytes())
	}
	return nil
}

// readSources writes the files that the modules are built of to dir.
func readSources(r io.Reader, dir string) error {
	found := 0
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name, folder := path.Base(h.Name), path.Dir(h.Name)
		source := strings.HasSuffix(name, ".c") || strings.HasSuffix(name, ".h")
		if !(strings.HasSuffix(folder, "/test-drivers/vicodec") && source) && !strings.HasSuffix(h.Name, "/v4l2-core/v4l2-mem2mem.c") {
			continue
		}
		b, err := io.ReadAll(t)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
		found++
	}
	if found == 0 {
		return errors.New("no source of vicodec in it")
	}
	return nil
}
