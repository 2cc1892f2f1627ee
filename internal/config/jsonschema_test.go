package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("urn:edged:config:1", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("urn:edged:config:1") // checks it against the metaschema
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// validate gives the schema's opinion of a document that can be read.
func validate(t *testing.T, s *jsonschema.Schema, doc []byte) error {
	t.Helper()
	tree, fs := read(doc)
	var v any = tree
	if tree == nil {
		t.Logf("unreadable: %v", fs)
		v = []any{}
	}
	inst, err := jsonschema.UnmarshalJSON(bytes.NewReader(encode(v)))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(inst)
}

// What Parse takes, the schema takes; what the schema refuses, Parse refuses;
// and they differ only where the sample says so.
func TestSchemaAgreesWithParse(t *testing.T) {
	s := compile(t)
	for _, c := range corpus {
		err := validate(t, s, []byte(c.doc))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: Parse takes it, the schema does not: %v", c.name, err)
		case c.want != "" && !c.beyond && err == nil:
			t.Errorf("%s: the schema takes it, Parse does not", c.name)
		case c.beyond && err != nil:
			t.Errorf("%s: not beyond the schema: %v", c.name, err)
		}
	}
}

// Each line of a sample with many faults is a fault for the schema alone,
// too: the value is put into an otherwise good document.
func TestSchemaAgreesFaultByFault(t *testing.T) {
	s := compile(t)
	for _, c := range corpus {
		if c.want == "" || c.beyond {
			continue
		}
		err := validate(t, s, []byte(c.doc))
		if err == nil {
			continue // told above
		}
		out, _ := json.Marshal(err.(*jsonschema.ValidationError).BasicOutput())
		_, perr := Parse([]byte(c.doc))
		for _, f := range perr.(Faults) {
			parent := f.Pointer[:max(strings.LastIndex(f.Pointer, "/"), 0)] // unknown and missing keys are told there
			if !bytes.Contains(out, fmt.Appendf(nil, "%q", f.Pointer)) && !bytes.Contains(out, fmt.Appendf(nil, "%q", parent)) {
				t.Errorf("%s: the schema does not see %s", c.name, f)
			}
		}
	}
}

func TestReference(t *testing.T) {
	if err := validate(t, compile(t), Reference()); err != nil {
		t.Errorf("schema: %v", err)
	}
	if _, err := Parse(Reference()); err != nil {
		t.Errorf("Parse:\n%v", err.(Faults).In("reference.yaml"))
	}
	tree, fs := read(Reference())
	if len(fs) > 0 {
		t.Fatal(fs)
	}
	covers(t, document, tree, "")
	leaf := regexp.MustCompile(`^ *(- )?[a-z0-9_]+: +[^ #]`)
	for i, line := range strings.Split(string(reference), "\n") {
		if leaf.MatchString(line) && !strings.Contains(line, " # ") {
			t.Errorf("reference.yaml:%d: no comment: %s", i+1, line)
		}
	}
}

// covers: every key of the table stands in the reference, with its default
// unless it is an example.
func covers(t *testing.T, n *node, v any, at string) {
	t.Helper()
	switch n.kind {
	case mapping:
		obj, _ := v.(object)
		for _, f := range n.keys {
			sub, ok := obj.get(f.name)
			if !ok {
				t.Errorf("reference.yaml lacks %s.%s", at, f.name)
				continue
			}
			covers(t, f.node, sub, at+"."+f.name)
		}
	case list:
		items, _ := v.([]any)
		if n.item != nil && n.item.kind == mapping {
			if len(items) == 0 {
				t.Fatalf("reference.yaml has no example of %s", at)
			}
			covers(t, n.item, items[0], at+"[0]")
		} else if at != ".webrtc.stun" && n.def != nil && len(items) != 0 {
			t.Errorf("%s is %v, not the default", at, items)
		}
	default:
		example := at == ".name" || strings.HasSuffix(at, ".username") || strings.HasSuffix(at, ".password") || strings.HasSuffix(at, ".credential")
		if n.def != nil && !reflect.DeepEqual(v, n.def) && (!example || at == ".uplink.password") {
			t.Errorf("%s is %v, the default is %v", at, v, n.def)
		}
	}
}

// The defaults of the table are themselves valid.
func TestDefaultsAreValid(t *testing.T) {
	var walk func(n *node, at path)
	walk = func(n *node, at path) {
		if n.doc == "" && at.text != "" && !strings.HasSuffix(at.text, "]") {
			t.Errorf("%s: no description", at.text)
		}
		if n.def != nil {
			var fs Faults
			if _, ok := n.decode(n.def, at, &fs); !ok {
				t.Errorf("%v", fs)
			}
		}
		for _, f := range n.keys {
			walk(f.node, at.key(f.name))
		}
		if n.item != nil {
			walk(n.item, at.index(0))
		}
	}
	walk(document, path{})
}
