// Command notices writes NOTICE: the licences of everything that is linked into
// the binaries of `make dist`. With -check it only says what NOTICE lacks.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	notice = "NOTICE"
	binary = "./cmd/edged"
	apache = "/usr/share/common-licenses/Apache-2.0" // Debian's copy
	lgpl   = "/usr/share/common-licenses/LGPL-2.1"   // Debian's copy
	rule   = "================================================================================"
)

func main() {
	check := flag.Bool("check", false, "write nothing; report what NOTICE lacks")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "notices:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	parts, err := linked()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := write(&b, parts); err != nil {
		return err
	}
	if !check {
		return os.WriteFile(notice, b.Bytes(), 0o644)
	}
	have, err := os.ReadFile(notice)
	if err != nil {
		return err
	}
	var missing []string
	for _, p := range parts {
		if !bytes.Contains(have, []byte("\n  "+p.name+"\n")) {
			missing = append(missing, p.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s lacks %s: `make notices` writes it", notice, strings.Join(missing, ", "))
	}
	return nil
}

// part is something with a licence of its own: a module at a version, or a
// directory of one that carries another's code.
type part struct {
	name  string
	files []string
}

// linked lists what the binaries are made of, over all targets.
func linked() ([]part, error) {
	modules := map[string]string{} // name → directory
	nested := map[string]string{}
	for _, env := range [][]string{
		{"GOARCH=amd64", "CGO_ENABLED=1"}, {"GOARCH=arm64", "CGO_ENABLED=1"},
		{"GOARCH=arm", "CGO_ENABLED=1"}, {"GOARCH=arm", "GOARM=6", "CGO_ENABLED=0"},
	} {
		packages, err := list(env)
		if err != nil {
			return nil, err
		}
		for _, p := range packages {
			if p.Module == nil || p.Module.Main {
				continue
			}
			modules[p.Module.Path+" "+p.Module.Version] = p.Module.Dir
			if p.Dir != p.Module.Dir && len(licences(p.Dir)) > 0 {
				nested[p.ImportPath+" "+p.Module.Version] = p.Dir
			}
		}
	}
	var parts []part
	for _, dirs := range []map[string]string{modules, nested} {
		for name, dir := range dirs {
			files := licences(dir)
			if len(files) == 0 {
				return nil, fmt.Errorf("%s: no licence found", name)
			}
			parts = append(parts, part{name, files})
		}
	}
	root, err := output(nil, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	parts = append(parts, part{"Go standard library and runtime", licences(strings.TrimSpace(string(root)))})
	parts = append(parts, part{"GNU C Library", []string{lgpl}}, part{"OpenSSL", []string{apache}}, part{"libjpeg-turbo", []string{"scripts/notices/libjpeg-turbo.txt"}})
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.name, b.name) })
	return parts, nil
}

type goPackage struct {
	ImportPath, Dir string
	Module          *struct {
		Path, Version, Dir string
		Main               bool
	}
}

func list(env []string) ([]goPackage, error) {
	out, err := output(append(env, "GOOS=linux"), "go", "list", "-deps", "-tags", "netgo,osusergo", "-json=ImportPath,Dir,Module", binary)
	if err != nil {
		return nil, err
	}
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
}

func output(env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return out, nil
}

var licenceName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// licences gives the licence files of a directory, in order.
func licences(dir string) (files []string) {
	entries, _ := os.ReadDir(dir) // what cannot be read has none, which the caller reports
	for _, e := range entries {
		if !e.IsDir() && licenceName.MatchString(e.Name()) && !strings.HasSuffix(e.Name(), ".go") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files
}

// write groups the parts by the text of their licence.
func write(w io.Writer, parts []part) error {
	names := map[string][]string{}
	var texts []string
	for _, p := range parts {
		var text strings.Builder
		for _, f := range p.files {
			b, err := os.ReadFile(f)
			if err != nil {
				return err
			}
			text.WriteString(strings.TrimSpace(strings.ReplaceAll(string(b), "\r\n", "\n")) + "\n")
		}
		if names[text.String()] == nil {
			texts = append(texts, text.String())
		}
		names[text.String()] = append(names[text.String()], p.name)
	}
	var b strings.Builder
	b.WriteString(head)
	for _, text := range texts {
		b.WriteString("\n" + rule + "\n\n")
		for _, n := range names[text] {
			b.WriteString("  " + n + "\n")
		}
		b.WriteString("\n" + text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

const head = `edged is under the licence in LICENSE. Its binaries contain the following.
Written by ` + "`make notices`" + ` from what is linked in; do not edit.

The static binaries with a software encoder also contain parts of OpenSSL's
libcrypto (Apache-2.0; Copyright The OpenSSL Project Authors), of libjpeg-turbo,
which is based in part on the work of the Independent JPEG Group, of the GNU C
Library (LGPL-2.1-or-later; the whole source and the build scripts of edged are
there to link it anew against another version: scripts/build), and of the GCC
runtime libraries libgcc and libstdc++ (GPL-3.0-or-later with the GCC Runtime
Library Exception 3.1).
`
