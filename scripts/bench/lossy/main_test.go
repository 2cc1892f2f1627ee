package main

import (
	"io"
	"testing"
)

func TestLossyRefuses(t *testing.T) {
	for _, args := range [][]string{{"-what"}, {"-only", "nothing of that name"}, {"-edged", "/no/such/program"}} {
		if run(t.Context(), args, io.Discard, io.Discard) == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
