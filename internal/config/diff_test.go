package config

import (
	"fmt"
	"strings"
	"testing"
)

func mustParse(t *testing.T, doc string) Config {
	t.Helper()
	c, err := Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDiff(t *testing.T) {
	a := mustParse(t, secretDoc)
	for _, c := range []struct{ old, new, want string }{
		{"name: gate", "name: gate", "{[] [] [] []}"},
		{"name: gate", "name: door", "{[] [] [] [name]}"},
		{"{id: a,", "{id: z,", "{[z] [a] [] []}"},
		{"password: pw-a", "password: other", "{[] [] [a] []}"},
		{`"pattern:"`, `"v4l2:auto"`, "{[] [] [c] []}"},
		{`"pattern:"`, `"pattern:", video: {fps: 30}`, "{[] [] [] []}"}, // the default, spelled out
		{`"pattern:"`, `"pattern:", video: {fps: 29}`, "{[] [] [c] []}"},
		{"credential: pw-1", "credential: pw-x", "{[] [] [] [webrtc]}"},
		{"uplink: {", "stats: {batch: 6}\nuplink: {", "{[] [] [] [uplink]}"},
		{"uplink: {", "log: {level: debug}\nauth: {open: true}\nturn: {enabled: false}\nhttp: {origins: ['*']}\nuplink: {", "{[] [] [] [http turn auth log]}"},
	} {
		b := mustParse(t, strings.Replace(secretDoc, c.old, c.new, 1))
		d := Diff(a, b)
		if got := fmt.Sprint(d); got != c.want {
			t.Errorf("%s → %s: %s, want %s", c.old, c.new, got, c.want)
		}
		if d.None() != (c.want == "{[] [] [] []}") {
			t.Errorf("%+v: None is %v", d, d.None())
		}
	}
}

func TestDiffOrderIsNoChange(t *testing.T) {
	a := mustParse(t, "cameras: [{id: a, source: 'pattern:'}, {id: b, source: 'pattern:'}]")
	b := mustParse(t, "cameras: [{id: b, source: 'pattern:'}, {id: a, source: 'pattern:'}]")
	if d := Diff(a, b); !d.None() {
		t.Errorf("%+v", d)
	}
}
