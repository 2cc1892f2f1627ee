package ui

import (
	"bytes"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// files gives every embedded file by its name.
func files(t *testing.T) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := fs.WalkDir(FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		all[name], err = FS.ReadFile(name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestPageIsSmall(t *testing.T) {
	const most = 60 << 10 // bytes, uncompressed: the first picture waits for them
	total := 0
	for _, b := range files(t) {
		total += len(b)
	}
	if total > most {
		t.Errorf("the page has %d bytes, want at most %d", total, most)
	}
	t.Logf("%d bytes", total)
}

func TestPageObeysItsPolicy(t *testing.T) {
	// What Content-Security-Policy: default-src 'self' would refuse, and what
	// a network without Internet could not load.
	forbidden := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|javascript:|<script(?:[^>]*)>[^<]|eval\(|new Function|innerHTML|@import|(?:src|href)="(?:https?:)?//|from '(?:https?:)?//`)
	for name, b := range files(t) {
		if m := forbidden.Find(b); m != nil {
			t.Errorf("%s: %q", name, m)
		}
		for _, url := range regexp.MustCompile(`https?://[^\s"']+`).FindAllString(string(b), -1) {
			if url != "http://www.w3.org/2000/svg" { // a name, fetched by nobody
				t.Errorf("%s: names %s", name, url)
			}
		}
	}
}

var (
	pageRef   = regexp.MustCompile(`(?:src|href)="([^"#]+)"`)
	moduleRef = regexp.MustCompile(`(?:from|import) '([^']+)'`)
)

// TestReferences: what the page and its modules name is there, and whatever
// is there is named; every module that is needed is fetched at once.
func TestReferences(t *testing.T) {
	all := files(t)
	page := map[string]bool{}
	for _, m := range pageRef.FindAllSubmatch(all["index.html"], -1) {
		page[string(m[1])] = true
	}
	needed := map[string]bool{"index.html": true}
	for name := range page {
		needed[name] = true
	}
	for name, b := range all {
		for _, m := range moduleRef.FindAllSubmatch(b, -1) {
			ref := path.Join(path.Dir(name), string(m[1]))
			needed[ref] = true
			if !page[ref] {
				t.Errorf("%s is imported, but index.html does not preload it", ref)
			}
		}
	}
	for name := range needed {
		if all[name] == nil {
			t.Errorf("%s is named, but is not there", name)
		}
	}
	for name := range all {
		if !needed[name] {
			t.Errorf("%s is there, but is not named", name)
		}
	}
}

// TestElements: each element that a script looks up by its identifier exists.
func TestElements(t *testing.T) {
	all := files(t)
	look := regexp.MustCompile(`(?:\$|getElementById)\('([a-z-]+)'\)`)
	found := 0
	for name, b := range all {
		for _, m := range look.FindAllSubmatch(b, -1) {
			found++
			if !bytes.Contains(all["index.html"], []byte(`id="`+string(m[1])+`"`)) {
				t.Errorf("%s looks for an element #%s, which index.html lacks", name, m[1])
			}
		}
	}
	if found == 0 {
		t.Error("no look-up found: the test has lost its sight")
	}
}

// TestModules runs the modules' own tests by node.
func TestModules(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed: scripts/setup installs it")
	}
	tests, err := filepath.Glob("testdata/*.test.js")
	if err != nil || len(tests) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	out, err := exec.Command(node, append([]string{"--test", "--test-reporter=tap"}, tests...)...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "# fail 0") {
		t.Errorf("node --test: %v\n%s", err, out)
	}
}
