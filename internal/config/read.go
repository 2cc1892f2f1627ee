package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// MaxDocument is the most bytes of a document.
const MaxDocument = 96 << 10

// maxDepth of a document's nesting; the schema has five levels.
const maxDepth = 16

var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// object is a mapping in the document's order. Scalars beside it are string,
// int64, float64, bool and nil; lists are []any.
type object []member

type member struct {
	key   string
	value any
}

func (o object) get(key string) (any, bool) {
	for _, m := range o {
		if m.key == key {
			return m.value, true
		}
	}
	return nil, false
}

// read turns YAML or JSON into values. Nothing in it expands: anchors,
// aliases, tags and merge keys are faults.
func read(doc []byte) (root object, fs Faults) {
	doc = bytes.TrimPrefix(doc, []byte("\xef\xbb\xbf"))
	switch {
	case len(doc) > MaxDocument:
		fs.add(path{}, "%d bytes, the limit is %d", len(doc), MaxDocument)
		return nil, fs
	case !utf8.Valid(doc) || bytes.IndexByte(doc, 0) >= 0:
		fs.add(path{}, "not a text in UTF-8")
		return nil, fs
	}
	var v any
	if json.Valid(doc) {
		v = readJSON(doc, &fs)
	} else {
		v = readYAML(doc, &fs)
	}
	if len(fs) > 0 && v == nil {
		return nil, fs
	}
	if v == nil { // an empty file
		return object{}, fs
	}
	root, ok := v.(object)
	if !ok {
		fs.add(path{}, "%s, not a mapping of keys to values", describe(v))
	}
	return root, fs
}

func readJSON(doc []byte, fs *Faults) any {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	v, err := jsonValue(dec, path{}, 0, fs)
	if err != nil && !errors.Is(err, io.EOF) {
		fs.add(path{}, "%v", err)
		return nil
	}
	return v
}

func jsonValue(dec *json.Decoder, p path, depth int, fs *Faults) (any, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := tok.(type) {
	case json.Number:
		return number(string(t)), nil
	case json.Delim:
		if t == '[' {
			return jsonList(dec, p, depth, fs)
		}
		return jsonObject(dec, p, depth, fs)
	}
	return tok, nil // string, bool, nil
}

func jsonList(dec *json.Decoder, p path, depth int, fs *Faults) (any, error) {
	list := []any{}
	for dec.More() {
		v, err := jsonValue(dec, p.index(len(list)), depth+1, fs)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := dec.Token()
	return list, err
}

func jsonObject(dec *json.Decoder, p path, depth int, fs *Faults) (any, error) {
	obj, seen := object{}, map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := tok.(string)
		v, err := jsonValue(dec, p.key(key), depth+1, fs)
		if err != nil {
			return nil, err
		}
		obj = obj.with(key, v, p, seen, fs)
	}
	_, err := dec.Token()
	return obj, err
}

// with adds a member; a key that is there already is a fault.
func (o object) with(key string, v any, p path, seen map[string]bool, fs *Faults) object {
	if seen[key] {
		fs.add(p.key(key), "given twice")
		return o
	}
	seen[key] = true
	return append(o, member{key, v})
}

// number keeps whole numbers whole, however they are written.
func number(s string) any {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return math.Inf(1)
	}
	return float(f)
}

func float(f float64) any {
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return int64(f)
	}
	return f
}

var errTooDeep = fmt.Errorf("nested more than %d deep", maxDepth)

func readYAML(doc []byte, fs *Faults) (v any) {
	if n := contentLines(doc); n > maxLines {
		fs.add(path{}, "%d lines besides comments, the limit is %d", n, maxLines)
		return nil
	}
	if line := tooDeep(doc); line > 0 {
		fs.add(path{}, "line %d: %v", line, errTooDeep)
		return nil
	}
	defer func() {
		if r := recover(); r != nil { // the parser met what its authors did not
			fs.add(path{}, "cannot be read as YAML")
			v = nil
		}
	}()
	file, err := parser.ParseBytes(doc, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		fs.add(path{}, "%s", syntax(err))
		return nil
	}
	var body ast.Node
	for _, d := range file.Docs {
		if d == nil || d.Body == nil {
			continue
		}
		if body != nil {
			fs.add(path{}, "%smore than one YAML document", where(d.Body))
			return nil
		}
		body = d.Body
	}
	if body == nil {
		return nil
	}
	return yamlValue(body, path{}, 0, fs)
}

// maxLines bounds a YAML document, because the time that the parser takes
// rises with the square of the lines of a mapping. 64 cameras with every key
// spelled out are some 1000 lines.
const maxLines = 3000

func contentLines(doc []byte) int {
	n := 0
	for line := range bytes.Lines(doc) {
		if text := bytes.TrimSpace(line); len(text) > 0 && text[0] != '#' {
			n++
		}
	}
	return n
}

// tooDeep finds a line that would make the recursive parser nest without
// bound, by brackets, by block indicators or by indentation.
func tooDeep(doc []byte) int {
	const limit = 64 // more than maxDepth, for brackets inside texts count here too
	open := 0
	for n, line := range bytes.Split(doc, []byte("\n")) {
		text := bytes.TrimLeft(line, " \t")
		indent := len(line) - len(text)
		blocks := 0
		for len(text) > 1 && bytes.IndexByte([]byte("-?:"), text[0]) >= 0 && (text[1] == ' ' || text[1] == '\t') {
			blocks++
			text = bytes.TrimLeft(text[1:], " \t")
		}
		open += bytes.Count(line, []byte("[")) + bytes.Count(line, []byte("{"))
		open -= bytes.Count(line, []byte("]")) + bytes.Count(line, []byte("}"))
		open = max(open, 0)
		brackets := bytes.Count(line, []byte("[")) + bytes.Count(line, []byte("{"))
		if blocks > limit || indent > 4*limit && len(text) > 0 || open > limit || brackets > 16*limit {
			return n + 1
		}
	}
	return 0
}

// syntax puts a parser's error in one line, with its place.
func syntax(err error) string {
	var e interface {
		GetMessage() string
		GetToken() *token.Token
	}
	if !errors.As(err, &e) {
		msg, _, _ := strings.Cut(err.Error(), "\n")
		return clip(msg, 120)
	}
	place := ""
	if t := e.GetToken(); t != nil && t.Position != nil {
		place = fmt.Sprintf("line %d:%d: ", t.Position.Line, t.Position.Column)
	}
	msg, _, _ := strings.Cut(e.GetMessage(), "\n")
	return place + clip(msg, 120)
}

// where is the place of a node, as a prefix.
func where(n ast.Node) string {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return fmt.Sprintf("line %d:%d: ", t.Position.Line, t.Position.Column)
	}
	return ""
}

// broken stands for a value that already has its fault.
type broken struct{}

func yamlValue(n ast.Node, p path, depth int, fs *Faults) any {
	if depth > maxDepth {
		fs.add(p, "%s%v", where(n), errTooDeep)
		return broken{}
	}
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return nil
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.BoolNode:
		return n.Value
	case *ast.IntegerNode:
		switch i := n.Value.(type) {
		case int64:
			return i
		case uint64:
			return float(float64(i))
		}
		return math.Inf(1)
	case *ast.FloatNode:
		return float(n.Value)
	case *ast.InfinityNode:
		return n.Value
	case *ast.NanNode:
		return math.NaN()
	case *ast.SequenceNode:
		list := make([]any, len(n.Values))
		for i, item := range n.Values {
			list[i] = yamlValue(item, p.index(i), depth+1, fs)
		}
		return list
	case *ast.MappingNode:
		return yamlObject(n.Values, p, depth, fs)
	case *ast.MappingValueNode:
		return yamlObject([]*ast.MappingValueNode{n}, p, depth, fs)
	case *ast.CommentGroupNode:
		return nil
	}
	fs.add(p, "%s%s is not allowed here", where(n), kindName(n))
	return broken{}
}

func yamlObject(values []*ast.MappingValueNode, p path, depth int, fs *Faults) any {
	obj, seen := object{}, map[string]bool{}
	for _, m := range values {
		var key string
		switch k := m.Key.(type) {
		case *ast.StringNode:
			key = k.Value
		case *ast.MergeKeyNode, *ast.MappingKeyNode:
			fs.add(p, "%s%s is not allowed here", where(m.Key), kindName(m.Key))
			continue
		default: // a number or a word such as null: no key of ours, but name it as written
			if t := m.Key.GetToken(); t != nil {
				key = t.Value
			}
		}
		obj = obj.with(key, yamlValue(m.Value, p.key(key), depth+1, fs), p, seen, fs)
	}
	return obj
}

func kindName(n ast.Node) string {
	switch n.Type() {
	case ast.AnchorType:
		return "an anchor (&)"
	case ast.AliasType:
		return "an alias (*)"
	case ast.TagType:
		return "a tag (!)"
	case ast.MergeKeyType:
		return "a merge key (<<)"
	case ast.DirectiveType:
		return "a directive (%)"
	case ast.MappingKeyType:
		return "a composed key (?)"
	}
	return strings.ToLower(n.Type().String())
}

// describe names a value in a fault.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return quote(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	case []any:
		return "a list"
	case object:
		return "a mapping"
	}
	return "this"
}
