package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// kind is what a value must be.
type kind int

const (
	text     kind = iota
	whole         // a whole number
	truth         // true or false
	duration      // a Go duration, as text
	list
	mapping
)

var kindNames = map[kind]string{
	text: "a text", whole: "a whole number", truth: "true or false",
	duration: "a duration such as 60s", list: "a list", mapping: "a mapping of keys to values",
}

// node describes one place of the document. From the one table of nodes come
// strict decoding, defaults, redaction, the JSON Schema, and the proof that
// reference.yaml is complete.
type node struct {
	kind     kind
	doc      string // one sentence, with the unit
	def      any    // taken where the key is absent; nil: the key has none
	required bool
	secret   bool // never shown
	masked   bool // a URL that may hold secrets: shown without them
	later    bool // only the default is accepted in this version

	min, max int64 // whole; list: items; text: characters; duration: nanoseconds
	even     bool  // whole
	enum     []string
	pattern  string              // text; of the JSON Schema, too
	check    func(string) string // text; beyond the pattern, and with better words

	item *node   // list
	keys []field // mapping
	id   string  // list of mappings: the key that tells its items apart
}

type field struct {
	name string
	*node
}

func (n *node) field(name string) *node {
	for _, f := range n.keys {
		if f.name == name {
			return f.node
		}
	}
	return nil
}

// Hidden is what stands in the place of a secret.
const Hidden = "***"

// decode checks a value against its node and returns it with the defaults
// filled in, as encoding/json knows it. Where there is a fault, ok is false
// and the value is left out.
func (n *node) decode(v any, p path, fs *Faults) (out any, ok bool) {
	before := len(*fs)
	switch v := v.(type) {
	case broken:
		return nil, false
	case string:
		out = v
		n.decodeText(v, p, fs)
	case int64:
		out = v
		if n.kind != whole {
			n.wrongKind(v, p, fs)
		} else if v < n.min || v > n.max {
			fs.add(p, "%d is not in %d..%d", v, n.min, n.max)
		} else if n.even && v%2 != 0 {
			fs.add(p, "%d is not even", v)
		}
	case bool:
		out = v
		if n.kind != truth {
			n.wrongKind(v, p, fs)
		}
	case []any:
		if n.kind == list {
			return n.decodeList(v, p, fs)
		}
		n.wrongKind(v, p, fs)
	case object:
		if n.kind == mapping {
			return n.decodeMapping(v, p, fs), true
		}
		n.wrongKind(v, p, fs)
	default:
		n.wrongKind(v, p, fs)
	}
	if len(*fs) == before && n.later && out != n.def {
		n.notYet(v, p, fs)
	}
	return out, len(*fs) == before
}

func (n *node) wrongKind(v any, p path, fs *Faults) {
	hint := ""
	if _, isText := v.(string); n.kind == text && v != nil && !isText {
		hint = ": put it in quotes"
	}
	if n.secret {
		fs.add(p, "not %s%s", kindNames[n.kind], hint)
		return
	}
	fs.add(p, "%s is not %s%s", describe(v), kindNames[n.kind], hint)
}

func (n *node) notYet(v any, p path, fs *Faults) {
	switch {
	case n.kind == list, n.def == "":
		fs.add(p, "%s %s: leave it out", describe(v), notYet)
	default:
		fs.add(p, "%s %s: only %s is", describe(v), notYet, describe(normal(n.def)))
	}
}

// normal gives a default the type that read gives a value.
func normal(v any) any {
	if i, ok := v.(int); ok {
		return int64(i)
	}
	return v
}

func (n *node) decodeText(v string, p path, fs *Faults) {
	switch {
	case n.kind == duration:
		n.decodeDuration(v, p, fs)
	case n.kind != text:
		n.wrongKind(v, p, fs)
	case n.secret:
		if v == Hidden {
			fs.add(p, "%q stands for a secret and is none", Hidden)
		} else if int64(utf8.RuneCountInString(v)) > n.max {
			fs.add(p, "longer than %d characters", n.max)
		}
	case v == "" && n.def == "":
	case n.later: // decode says so
	case int64(utf8.RuneCountInString(v)) < n.min || int64(utf8.RuneCountInString(v)) > n.max:
		fs.add(p, "%s is not %d to %d characters long", describe(v), n.min, n.max)
	case len(n.enum) > 0 && !slices.Contains(n.enum, v):
		fs.add(p, "%s is not one of %s", describe(v), strings.Join(n.enum, ", "))
	default:
		if n.check != nil {
			if detail := n.check(v); detail != "" {
				fs.add(p, "%s", detail)
				return
			}
		}
		if n.pattern != "" && !compiled(n.pattern).MatchString(v) {
			fs.add(p, "%s does not match %s", describe(v), n.pattern)
		}
	}
}

func (n *node) decodeDuration(v string, p path, fs *Faults) {
	d, err := time.ParseDuration(v)
	if err != nil || !compiled(durationPattern).MatchString(v) {
		fs.add(p, "%s is not %s", describe(v), kindNames[duration])
		return
	}
	if least, most := time.Duration(n.min), time.Duration(n.max); d < least || d > most {
		fs.add(p, "%s is not in %v..%v", describe(v), least, most)
	}
}

// durationPattern leaves out the signs and fractions that nobody writes.
const durationPattern = `^([0-9]+(h|m|s|ms))+$`

func (n *node) decodeList(v []any, p path, fs *Faults) (any, bool) {
	if n.later && len(v) > 0 {
		n.notYet(v, p, fs)
		return nil, false
	}
	out := []any{}
	if int64(len(v)) > n.max || int64(len(v)) < n.min {
		fs.add(p, "%d items are not in %d..%d", len(v), n.min, n.max)
		return out, false
	}
	for i, item := range v {
		if x, ok := n.item.decode(item, p.index(i), fs); ok {
			out = append(out, x)
		} else {
			out = append(out, nil) // keeps the places of the others
		}
	}
	return out, true
}

func (n *node) decodeMapping(v object, p path, fs *Faults) any {
	out := map[string]any{}
	for _, m := range v {
		f := n.field(m.key)
		if f == nil {
			fs.add(p.key(m.key), "unknown key; there are %s", strings.Join(n.names(), ", "))
			continue
		}
		if x, ok := f.decode(m.value, p.key(m.key), fs); ok {
			out[m.key] = x
		}
	}
	for _, f := range n.keys {
		if _, given := v.get(f.name); given {
			continue
		}
		if f.required {
			fs.add(p.key(f.name), "missing")
		} else if d, ok := f.fill(); ok {
			out[f.name] = d
		}
	}
	return out
}

func (n *node) names() []string {
	names := make([]string, len(n.keys))
	for i, f := range n.keys {
		names[i] = f.name
	}
	return names
}

// fill is the value of a key that is not given.
func (n *node) fill() (any, bool) {
	if n.kind == mapping {
		var none Faults
		return n.decodeMapping(nil, path{}, &none), true
	}
	return n.def, n.def != nil
}

var patterns = map[string]*regexp.Regexp{}

func init() { compileAll(document) }

func compileAll(n *node) {
	if n == nil {
		return
	}
	if n.pattern != "" {
		patterns[n.pattern] = regexp.MustCompile(n.pattern)
	}
	patterns[durationPattern] = regexp.MustCompile(durationPattern)
	compileAll(n.item)
	for _, f := range n.keys {
		compileAll(f.node)
	}
}

// compiled finds a pattern of the table; all were compiled at start.
func compiled(pattern string) *regexp.Regexp {
	if re := patterns[pattern]; re != nil {
		return re
	}
	panic(fmt.Sprintf("config: pattern %q is not in the table", pattern))
}
