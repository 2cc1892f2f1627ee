package config

import (
	_ "embed"
	"encoding/json"
)

//go:embed reference.yaml
var reference []byte

// Reference is a document with every key, commented.
func Reference() []byte { return append([]byte(nil), reference...) }

// Schema is the JSON Schema (draft 2020-12) of the document. What Parse takes,
// it takes; Parse also checks what a schema cannot say: unique ids, key pairs,
// ports that clash, the inside of addresses.
func Schema() []byte {
	s := document.schema()
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$id"] = "urn:edged:config:1"
	s["title"] = "edged.config/1"
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic("config: " + err.Error()) // maps of texts and numbers
	}
	return out
}

func (n *node) schema() map[string]any {
	s := map[string]any{}
	if n.doc != "" {
		s["description"] = n.doc
	}
	if n.def != nil {
		s["default"] = n.def
	}
	switch n.kind {
	case text:
		s["type"] = "string"
		n.textSchema(s)
	case duration:
		s["type"], s["pattern"] = "string", durationPattern
	case whole:
		s["type"] = "integer"
		if !n.later {
			s["minimum"], s["maximum"] = n.min, n.max
		}
		if n.even {
			s["multipleOf"] = 2
		}
	case truth:
		s["type"] = "boolean"
	case list:
		s["type"], s["maxItems"] = "array", n.max
		if n.min > 0 {
			s["minItems"] = n.min
		}
		if n.item != nil {
			s["items"] = n.item.schema()
		}
	case mapping:
		n.mappingSchema(s)
	}
	if n.later && n.kind != list {
		s["const"] = n.def
	}
	return s
}

func (n *node) textSchema(s map[string]any) {
	if n.later {
		return
	}
	s["maxLength"] = n.max
	if n.min > 0 && n.def != "" {
		s["minLength"] = n.min
	}
	if n.pattern != "" {
		s["pattern"] = n.pattern
	}
	if len(n.enum) > 0 {
		s["enum"] = n.enum
	}
	if n.secret {
		s["writeOnly"] = true
		s["not"] = map[string]any{"const": Hidden}
	}
}

func (n *node) mappingSchema(s map[string]any) {
	properties, required := map[string]any{}, []string{}
	for _, f := range n.keys {
		properties[f.name] = f.schema()
		if f.required {
			required = append(required, f.name)
		}
	}
	s["type"], s["additionalProperties"], s["properties"] = "object", false, properties
	if len(required) > 0 {
		s["required"] = required
	}
}
