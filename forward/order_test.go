package forward

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// permutations are all orders of some values.
func permutations(of []string) (all [][]string) {
	if len(of) == 0 {
		return [][]string{nil}
	}
	for i, first := range of {
		rest := append(slices.Clone(of[:i]), of[i+1:]...)
		for _, p := range permutations(rest) {
			all = append(all, append([]string{first}, p...))
		}
	}
	return all
}

// Every order of picture, sound and data, of which any may be refused or
// missing, gets an answer of the same m-lines: what is taken is sent and
// bundled in the offer's order, the rest is refused.
func TestEveryOrderOfMLines(t *testing.T) {
	lines := map[string]string{"video": videoLine("a=mid:0", "a=rtpmap:49 flexfec-03/90000"), "audio": audioLine + "a=mid:a\r\n", "application": dataLine}
	lines["video"] = strings.Replace(lines["video"], " 109 114", " 109 114 49", 1)
	mids := map[string]string{"video": "0", "audio": "a", "application": "1"}
	for _, order := range permutations([]string{"video", "audio", "application"}) {
		for states := range 27 { // of each kind: offered, refused, missing
			text, bundled := strings.Replace(offerHead, "BUNDLE 0 1 a", "BUNDLE", 1), ""
			var kinds []string
			var want []string // taken
			for i, kind := range order {
				state := states / []int{1, 3, 9}[i] % 3
				if state == 2 {
					continue
				}
				line := lines[kind]
				if state == 1 {
					line = strings.Replace(line, "m="+kind+" 9", "m="+kind+" 0", 1)
				} else {
					want, bundled = append(want, kind), bundled+" "+mids[kind]
				}
				kinds, text = append(kinds, kind), text+line
			}
			name := fmt.Sprintf("%v of %v", want, kinds)
			text = strings.Replace(text, "BUNDLE", "BUNDLE"+bundled, 1)
			got, chosen, err := answerTo(text)
			if !slices.Contains(want, "video") && !slices.Contains(want, "audio") {
				if err == nil {
					t.Errorf("%s: answered\n%s", name, got)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			checkLines(t, got)
			back, err := parseOffer(got)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var answered, taken []string
			for _, m := range back.media {
				answered = append(answered, m.kind)
				if !m.rejected {
					taken = append(taken, m.kind)
				}
			}
			if !slices.Equal(answered, kinds) || !slices.Equal(taken, want) {
				t.Errorf("%s: %v of %v in\n%s", name, taken, answered, got)
			}
			if group := "a=group:BUNDLE" + bundled + "\r\n"; !strings.Contains(got, group) {
				t.Errorf("%s: no %q in\n%s", name, group, got)
			}
			if i := slices.IndexFunc(chosen, func(s selection) bool { return back.media[s.media].kind == "video" }); i >= 0 && i != len(chosen)-1 {
				t.Errorf("%s: the picture does not come last", name)
			}
			if fec := slices.Contains(want, "video"); strings.Contains(got, "FEC-FR") != fec {
				t.Errorf("%s: FEC: %v", name, !fec)
			}
		}
	}
}
