package config

import (
	"bytes"
	"encoding/json"
	"net/url"
	"reflect"
	"slices"
	"strings"
)

// Redacted is the document as JSON, its keys in its own order and every
// secret replaced by [Hidden], parameters such as ?password= in a camera's URL
// included. Credentials in a camera's URL are moved to
// username and password. The error is a [Faults]; a document with unknown
// keys is refused, for they may hold anything.
func Redacted(doc []byte) ([]byte, error) {
	tree, fs := read(doc)
	if tree == nil {
		return nil, fs
	}
	tree = lift(tree, &fs)
	document.decodeMapping(tree, path{}, &fs)
	if len(fs) > 0 {
		return nil, fs
	}
	return encode(document.hide(tree)), nil
}

func (n *node) hide(v any) any {
	switch v := v.(type) {
	case string:
		if n.secret && v != "" {
			return Hidden
		}
		if n.masked {
			return mask(v)
		}
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = n.item.hide(item)
		}
		return out
	case object:
		out := make(object, len(v))
		for i, m := range v {
			out[i] = member{m.key, n.field(m.key).hide(m.value)}
		}
		return out
	}
	return v
}

// Merge is the document next, as JSON, where each secret that reads [Hidden]
// is taken from the document now: of the camera with the same id, of the TURN
// server with the same urls, of the same key elsewhere. Where there is none,
// that is a fault. The error is a [Faults]; the result is not checked
// otherwise: give it to [Parse].
func Merge(now, next []byte) ([]byte, error) {
	old, fs := read(now)
	if old == nil && len(bytes.TrimSpace(now)) > 0 {
		return nil, fs
	}
	old = lift(old, &fs)
	tree, fs := read(next) // the faults of the document now are not the caller's
	if tree == nil {
		return nil, fs
	}
	tree = lift(tree, &fs)
	merged := document.restore(tree, old, path{}, &fs)
	if len(fs) > 0 {
		return nil, fs
	}
	return encode(merged), nil
}

// restore puts the secrets of old into v.
func (n *node) restore(v, old any, p path, fs *Faults) any {
	switch v := v.(type) {
	case string:
		if n == nil || !(n.secret && v == Hidden) && !(n.masked && strings.Contains(v, Hidden)) {
			return v
		}
		was, _ := old.(string)
		if was != "" && (n.secret || mask(was) == v) {
			return was
		}
		fs.add(p, "%q stands for a secret that is not there", Hidden)
	case []any:
		if n == nil || n.item == nil {
			return v
		}
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = n.item.restore(item, n.twin(item, old), p.index(i), fs)
		}
		return out
	case object:
		was, _ := old.(object)
		out := make(object, len(v))
		for i, m := range v {
			var f *node
			if n != nil {
				f = n.field(m.key)
			}
			before, _ := was.get(m.key)
			if f != nil && f.secret && m.value == any(Hidden) && !within(destinations(v), destinations(was)) {
				fs.add(p.key(m.key), "%q: the secret would go to another address than before: give it again", Hidden)
				continue
			}
			out[i] = member{m.key, f.restore(m.value, before, p.key(m.key), fs)}
		}
		return out
	}
	return v
}

// destinations are the hosts and ports that the secrets of an object go to: a
// camera's, or the brokers'.
func destinations(o object) (out []string) {
	add := func(v any) {
		if text, ok := v.(string); ok {
			if u, err := url.Parse(text); err == nil && u.Host != "" {
				out = append(out, u.Scheme+"://"+u.Host)
			}
		}
	}
	for _, key := range []string{"source", "sub", "servers"} {
		v, _ := o.get(key)
		add(v)
		list, _ := v.([]any)
		for _, item := range list {
			add(item)
		}
	}
	return out
}

func within(some, all []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// twin finds the item of the old list that is the same thing as item.
func (n *node) twin(item, old any) any {
	obj, _ := item.(object)
	list, _ := old.([]any)
	id, ok := obj.get(n.id)
	if !ok {
		return nil
	}
	for _, o := range list {
		was, _ := o.(object)
		if v, ok := was.get(n.id); ok && reflect.DeepEqual(v, id) {
			return was
		}
	}
	return nil
}

// MarshalJSON keeps the document's order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(encode(m.key))
		b.WriteByte(':')
		b.Write(encode(m.value))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// encode is compact JSON, without HTML escapes.
func encode(v any) []byte {
	if f, ok := v.(float64); ok && (f != f || f-f != 0) {
		v = nil // YAML knows infinities, JSON does not; no key takes either
	}
	if _, ok := v.(broken); ok {
		v = nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if list, ok := v.([]any); ok {
		items := make([]json.RawMessage, len(list))
		for i, item := range list {
			items[i] = encode(item)
		}
		v = items
	}
	if err := enc.Encode(v); err != nil {
		panic("config: " + err.Error()) // the values of read all have a JSON form
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
