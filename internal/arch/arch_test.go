// Package arch holds the tests of the house itself: who may import whom, and
// what no file may have.
package arch

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module   = "edged"
	root     = "../.."
	maxLines = 500 // of a file that is no test
)

// allowed says what each package may import of ours. A name that ends in /...
// means everything below it. A new package needs a row: that is the design
// review. Laboratories and tests may import anything.
var allowed = map[string][]string{
	"cmd/edged": {"..."},

	"capture":             {},
	"capture/capturetest": {"capture"},
	"capture/decode":      {"capture"},
	"capture/encode":      {"capture", "capture/encode/m2m"},
	"capture/encode/m2m":  {"capture"},
	"capture/file":        {"capture", "capture/encode"},
	"capture/jpeg":        {},
	"capture/mic":         {"capture"},
	"capture/motion":      {},
	"capture/onvif":       {},
	"capture/pattern":     {"capture", "capture/encode"},
	"capture/rpicam":      {"capture", "capture/encode", "capture/encode/m2m"},
	"capture/placeholder": {"capture", "capture/encode"},
	"capture/receive":     {"capture"},
	"capture/rtsp":        {"capture", "capture/onvif", "capture/receive"},
	"capture/v4l2":        {"capture", "capture/encode", "capture/jpeg"},
	"forward":             {"capture", "forward/bwe", "forward/data", "forward/ingest", "forward/protect"},
	"forward/bwe":         {},
	"forward/data":        {},
	"forward/ingest":      {"capture", "capture/receive"},
	"forward/protect":     {},
	"storage":             {},
	"turn":                {},
	"uplink":              {"uplink/wire"},
	"uplink/wire":         {},

	"internal/arch":      {},
	"internal/auth":      {},
	"internal/box":       {"internal/config", "internal/snapshot", "forward", "forward/ingest", "capture", "capture/..."},
	"internal/config":    {"capture", "capture/motion", "forward", "turn", "uplink", "storage", "internal/web"},
	"internal/docs":      {},
	"internal/probe":     {"forward/data"},
	"internal/metrics":   {"forward", "capture", "turn", "uplink", "internal/box", "internal/signaling"},
	"internal/snapshot":  {"capture", "capture/decode"},
	"internal/signaling": {"forward", "capture", "internal/auth"},
	"internal/web":       {"internal/signaling", "internal/auth", "forward", "capture", "internal/web/ui"},
	"internal/web/ui":    {},

	"internal/lab/...": {"..."},
	"scripts/...":      {"..."},
}

// skipped reports whether a folder holds nothing of ours.
func skipped(p string) bool {
	switch name, err := filepath.Rel(root, p); {
	case err != nil:
		return false
	case name == ".git", name == ".cache", name == "bin", name == "dist":
		return true
	default:
		return filepath.Base(name) == "node_modules"
	}
}

// sources calls f for every file of the project, by its slashed path.
func sources(t *testing.T, f func(name string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && skipped(p) {
			return filepath.SkipDir
		}
		if d.Type().IsRegular() {
			name, err := filepath.Rel(root, p)
			if err != nil {
				return err
			}
			f(filepath.ToSlash(name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ours calls f for every Go file that is no test and no test data.
func ours(t *testing.T, f func(name string)) {
	t.Helper()
	sources(t, func(name string) {
		if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && !strings.Contains("/"+name, "/testdata/") {
			f(name)
		}
	})
}

func match(pattern, name string) bool {
	prefix, all := strings.CutSuffix(pattern, "...")
	return pattern == name || all && strings.HasPrefix(name, prefix)
}

// row finds the row of a package: its own, else that of a folder above it.
func row(rows map[string][]string, pkg string) (imports []string, ok bool) {
	if imports, ok = rows[pkg]; ok {
		return imports, true
	}
	for _, pattern := range slices.Sorted(maps.Keys(rows)) {
		if match(pattern, pkg) {
			return rows[pattern], true
		}
	}
	return nil, false
}

// violation says what is wrong with pkg importing what; "" means nothing.
func violation(rows map[string][]string, pkg, what string) string {
	imports, ok := row(rows, pkg)
	switch {
	case !ok:
		return pkg + " has no row in the map of imports"
	case !slices.ContainsFunc(imports, func(pattern string) bool { return match(pattern, what) }):
		return pkg + " must not import " + what
	}
	return ""
}

func TestImports(t *testing.T) {
	packages := map[string]bool{}
	ours(t, func(name string) {
		pkg := path.Dir(name)
		packages[pkg] = true
		if _, ok := row(allowed, pkg); !ok {
			t.Errorf("%s: %s has no row in the map of imports", name, pkg)
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			return
		}
		for _, i := range file.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Error(err)
				continue
			}
			what, is := strings.CutPrefix(imported, module+"/")
			if !is {
				continue
			}
			if v := violation(allowed, pkg, what); v != "" {
				t.Errorf("%s: %s", name, v)
			}
		}
	})
	for _, must := range []string{"capture", "forward", "turn", "uplink", "storage"} {
		if !packages[must] {
			t.Errorf("%s is not there: the walk is wrong", must)
		}
	}
}

// TestDomainKnowsNothingInternal: whatever the rows become, the domain packages never import internal/.
func TestDomainKnowsNothingInternal(t *testing.T) {
	for pkg, imports := range allowed {
		top, _, _ := strings.Cut(pkg, "/")
		if !slices.Contains([]string{"capture", "forward", "turn", "uplink", "storage"}, top) {
			continue
		}
		for _, i := range imports {
			if i == "..." || strings.HasPrefix(i, "internal") {
				t.Errorf("%s may import %s", pkg, i)
			}
		}
	}
}

func TestViolation(t *testing.T) {
	for _, tt := range []struct{ pkg, what, want string }{
		{"forward", "capture", ""},
		{"forward", "turn", "forward must not import turn"},
		{"turn", "capture", "turn must not import capture"},
		{"uplink", "uplink/wire", ""},
		{"capture", "capture/encode", "capture must not import capture/encode"},
		{"internal/box", "capture/v4l2", ""},
		{"internal/lab/x", "cmd/edged", ""},
		{"cmd/edged", "internal/web", ""},
		{"cmd/other", "turn", "cmd/other has no row in the map of imports"},
	} {
		if got := violation(allowed, tt.pkg, tt.what); got != tt.want {
			t.Errorf("%s → %s: %q, want %q", tt.pkg, tt.what, got, tt.want)
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	ours(t, func(name string) {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
			return
		}
		if n := bytes.Count(b, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines, at most %d are read in one go", name, n, maxLines)
		}
	})
}

// TestNoMachinePaths: the project speaks of itself, not of the machine that it was written on.
func TestNoMachinePaths(t *testing.T) {
	folders := []string{"/wo" + "rk/", "/ro" + "ot/", "/tmp/" + "bash"}
	sources(t, func(name string) {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
			return
		}
		for _, f := range folders {
			if i := bytes.Index(b, []byte(f)); i >= 0 {
				t.Errorf("%s:%d mentions %s", name, 1+bytes.Count(b[:i], []byte("\n")), f)
			}
		}
	})
}
