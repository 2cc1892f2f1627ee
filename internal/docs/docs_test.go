// Package docs holds the documents to what the code does.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"edged/internal/config"
	"edged/internal/metrics"
)

const root = "../.."

var documents = []string{"README.md", "ARCHITECTURE.md", "PROTOCOL.md", "CHANGES.md"}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var fence = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// Every block of YAML in a document is a whole configuration that works.
func TestConfigurationsWork(t *testing.T) {
	found := 0
	for _, name := range documents {
		for _, m := range fence.FindAllStringSubmatch(read(t, name), -1) {
			found++
			if _, err := config.Parse([]byte(m[1])); err != nil {
				t.Errorf("%s: %v\n%s", name, err, m[1])
			}
		}
	}
	if found < 2 {
		t.Errorf("only %d configurations found", found)
	}
}

var (
	makeWord   = regexp.MustCompile("`make ([a-z-]+)")
	makeTarget = regexp.MustCompile(`(?m)^([a-z][a-z-]*)(?: [a-z -]+)?:`)
)

func TestMakeTargetsExist(t *testing.T) {
	targets := map[string]bool{}
	for _, m := range makeTarget.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets[m[1]] = true
	}
	for _, name := range documents {
		for _, m := range makeWord.FindAllStringSubmatch(read(t, name), -1) {
			if !targets[m[1]] {
				t.Errorf("%s: there is no `make %s`", name, m[1])
			}
		}
	}
}

var metricRow = regexp.MustCompile("(?m)^\\| `(edged_[a-z_]+)(?:\\{([a-z,]*)\\})?` \\| ([a-z]+) \\|")

// The README's table has every metric, with its labels and type, and no other.
func TestMetricsAreTheTable(t *testing.T) {
	listed := map[string]string{}
	for _, m := range metricRow.FindAllStringSubmatch(read(t, "README.md"), -1) {
		listed[m[1]] = m[2] + " " + m[3]
	}
	for _, m := range metrics.Table() {
		want := strings.Join(m.Labels, ",") + " " + m.Type
		if got, ok := listed[m.Name]; !ok || got != want {
			t.Errorf("README: %s is %q, the code has %q", m.Name, got, want)
		}
		delete(listed, m.Name)
	}
	for name := range listed {
		t.Errorf("README: there is no metric %s", name)
	}
}

var place = regexp.MustCompile("`((?:cmd|capture|forward|turn|uplink|storage|internal|packaging|scripts)/[A-Za-z0-9_./*-]+)`")

func TestPlacesExist(t *testing.T) {
	for _, name := range documents {
		for _, m := range place.FindAllStringSubmatch(read(t, name), -1) {
			if found, err := filepath.Glob(filepath.Join(root, strings.TrimSuffix(m[1], "/"))); err != nil || len(found) == 0 {
				t.Errorf("%s: there is no %s", name, m[1])
			}
		}
	}
}

var identifier = regexp.MustCompile("`(capture|forward|turn|uplink|storage)\\.([A-Za-z]+)(?:\\.([A-Za-z]+))?(?:\\(\\))?`")

// A function or type that a document names can be found.
func TestIdentifiersExist(t *testing.T) {
	known := map[string]map[string]bool{}
	for _, name := range documents {
		for _, m := range identifier.FindAllStringSubmatch(read(t, name), -1) {
			pkg, full := m[1], strings.TrimSuffix(m[2]+"."+m[3], ".")
			if known[pkg] == nil {
				known[pkg] = names(t, pkg)
			}
			if !known[pkg][full] {
				t.Errorf("%s: package %s has no %s", name, pkg, full)
			}
		}
	}
}

// names lists the types, functions, variables, methods and fields of a package.
func names(t *testing.T, pkg string) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(root, pkg, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("package %s: %v", pkg, err)
	}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			addNames(known, d)
		}
	}
	return known
}

func addNames(known map[string]bool, d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		name := d.Name.Name
		if d.Recv != nil {
			of := d.Recv.List[0].Type
			if p, ok := of.(*ast.StarExpr); ok {
				of = p.X
			}
			if id, ok := of.(*ast.Ident); ok {
				name = id.Name + "." + name
			}
		}
		known[name] = true
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.ValueSpec:
				for _, n := range s.Names {
					known[n.Name] = true
				}
			case *ast.TypeSpec:
				known[s.Name.Name] = true
				switch of := s.Type.(type) {
				case *ast.StructType:
					addFields(known, s.Name.Name, of.Fields)
				case *ast.InterfaceType:
					addFields(known, s.Name.Name, of.Methods)
				}
			}
		}
	}
}

func addFields(known map[string]bool, of string, fields *ast.FieldList) {
	for _, f := range fields.List {
		for _, n := range f.Names {
			known[of+"."+n.Name] = true
		}
	}
}

var (
	routeRow   = regexp.MustCompile("(?m)^\\| `([A-Z]+(?: [A-Z]+)*) (/[^`?]*)")
	routeGo    = regexp.MustCompile(`"(/[^"]*)":`)
	methodRow  = regexp.MustCompile("(?m)^\\| `([a-z]+\\.[a-z]+|ping) ?(?:\\{[^`]*)?` \\|")
	methodGo   = regexp.MustCompile(`(?m)^\s"([a-z]+(?:\.[a-z]+)?)":\s+\{\(\*Session\)`)
	notServed  = []string{"/"} // served from the page's files, not in the table of routes
	parameters = regexp.MustCompile(`\{[a-z]+\}`)
)

// PROTOCOL.md lists the routes that the server has, and no others.
func TestRoutesAreServed(t *testing.T) {
	served := map[string]bool{}
	for _, m := range routeGo.FindAllStringSubmatch(read(t, "internal/web/routes.go"), -1) {
		served[parameters.ReplaceAllString(m[1], "{}")] = true
	}
	listed := map[string]bool{}
	for _, m := range routeRow.FindAllStringSubmatch(read(t, "PROTOCOL.md"), -1) {
		path := parameters.ReplaceAllString(m[2], "{}")
		listed[path] = true
		if !served[path] && !slices.Contains(notServed, path) {
			t.Errorf("PROTOCOL.md: %s %s is not served", m[1], m[2])
		}
	}
	for path := range served {
		if !listed[path] {
			t.Errorf("PROTOCOL.md: %s is missing", path)
		}
	}
	if len(listed) < 10 {
		t.Errorf("only %d routes found", len(listed))
	}
}

// PROTOCOL.md lists the methods of JSON-RPC that there are.
func TestMethodsAreTheMethods(t *testing.T) {
	listed := map[string]bool{}
	for _, m := range methodRow.FindAllStringSubmatch(read(t, "PROTOCOL.md"), -1) {
		listed[m[1]] = true
	}
	found := methodGo.FindAllStringSubmatch(read(t, "internal/signaling/methods.go"), -1)
	if len(found) < 5 {
		t.Fatalf("only %d methods found in the code", len(found))
	}
	for _, m := range found {
		if !listed[m[1]] {
			t.Errorf("PROTOCOL.md: method %s is missing", m[1])
		}
		delete(listed, m[1])
	}
	for m := range listed {
		t.Errorf("PROTOCOL.md: there is no method %s", m)
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)\)`)

// Links inside the project lead somewhere.
func TestLinksLead(t *testing.T) {
	for _, name := range documents {
		for _, m := range link.FindAllStringSubmatch(read(t, name), -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// The house of ARCHITECTURE.md has every package, and no other.
func TestTheHouseIsComplete(t *testing.T) {
	doc := read(t, "ARCHITECTURE.md")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		name := d.Name()
		if path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata") {
			return fs.SkipDir
		}
		rel, _ := filepath.Rel(root, path)
		if files, _ := filepath.Glob(filepath.Join(path, "*.go")); len(files) > 0 && !strings.Contains(doc, "`"+filepath.ToSlash(rel)+"`") {
			t.Errorf("ARCHITECTURE.md does not name `%s`", rel)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
