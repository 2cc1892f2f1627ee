package guest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// loopback builds v4l2loopback, whose cameras show what a program writes to
// them, for a kernel release ("6.1.0-1-amd64"). Debian has its source only. It
// needs make and the compiler that the kernel was made with.
func loopback(ctx context.Context, m machine, d debian, release, cache string) (map[string][]byte, error) {
	tree, err := headers(ctx, m, d, release, cache)
	if err != nil {
		return nil, err
	}
	if err := here().unpackInto(ctx, tree, "v4l2loopback-dkms"); err != nil {
		return nil, err
	}
	source, err := filepath.Glob(filepath.Join(tree, "usr/src/v4l2loopback-*"))
	if err != nil || len(source) != 1 {
		return nil, fmt.Errorf("v4l2loopback-dkms: %d sources, %w", len(source), err)
	}
	return compile(ctx, m, tree, release, source[0])
}

// headers unpacks what modules are built with, moved from where Debian would
// install it.
func headers(ctx context.Context, m machine, d debian, release, cache string) (tree string, err error) {
	version := strings.TrimSuffix(release, "-"+m.arch)
	series := strings.Join(strings.SplitN(version, ".", 3)[:2], ".")
	if tree, err = filepath.Abs(filepath.Join(cache, "headers-"+release)); err != nil {
		return "", err
	}
	makefile := filepath.Join(tree, "usr/src/linux-headers-"+release, "Makefile")
	if exists(makefile) {
		return tree, nil
	}
	if err := d.unpackInto(ctx, tree, "linux-headers-"+version+"-common"); err != nil {
		return "", err
	}
	// The tools run here, whatever they build for.
	if err := here().unpackInto(ctx, tree, "linux-kbuild-"+series); err != nil {
		return "", err
	}
	if err := d.unpackInto(ctx, tree, "linux-headers-"+release); err != nil {
		return "", err
	}
	b, err := os.ReadFile(makefile)
	if err != nil {
		return "", err
	}
	return tree, replace(makefile, []byte(strings.ReplaceAll(string(b), " /usr/src/", " "+tree+"/usr/src/")))
}

// compile builds the modules of a folder and returns them by name.
func compile(ctx context.Context, m machine, tree, release, source string) (map[string][]byte, error) {
	kernel := filepath.Join(tree, "usr/src/linux-headers-"+release)
	args := []string{"-s", "-C", kernel, "M=" + source, "CC=" + m.gcc, "modules"}
	if m.foreign {
		args = append(args, "CROSS_COMPILE="+strings.TrimSuffix(m.gcc, "gcc-12"))
	}
	if _, err := here().run(ctx, "", "make", args...); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(source, "*.ko"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("%s: no modules came of it, %w", source, err)
	}
	built := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		built[moduleName(f)] = b
	}
	return built, nil
}
