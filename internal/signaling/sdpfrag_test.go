package signaling

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseFragment(t *testing.T) {
	const creds = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n"
	for _, tt := range []struct {
		name, in, want string // want: the fields, or what the error says
		fails          bool
	}{
		{"RFC 9725's example", creds + "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\na=end-of-candidates\r\n",
			"{EsAw P2uYro0UCOQ4zxjKXaWCBui1 0 [candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1] true}", false},
		{"bare newlines", strings.ReplaceAll(creds, "\r\n", "\n"), "{EsAw P2uYro0UCOQ4zxjKXaWCBui1  [] false}", false},
		{"no newline at the end", "a=candidate:1", "{   [candidate:1] false}", false},
		{"first section counts", creds + "m=a\r\na=mid:x\r\na=ice-ufrag:other\r\nm=b\r\na=mid:y\r\n", "{EsAw P2uYro0UCOQ4zxjKXaWCBui1 x [] false}", false},
		{"candidate twice", "a=candidate:1\r\na=candidate:1\r\n", "{   [candidate:1] false}", false},
		{"unknown lines", "v=0\r\na=what:ever\r\nk=clear\r\n", "{   [] false}", false},
		{"empty", "", "empty", true},
		{"only blank lines", "\r\n\r\n", "empty", true},
		{"prose", "hello\r\n", "not SDP", true},
		{"password alone", "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n", "without ice-ufrag", true},
		{"short ufrag", "a=ice-ufrag:abc\r\n", "3 characters", true},
		{"short password", "a=ice-ufrag:abcd\r\na=ice-pwd:short\r\n", "5 characters", true},
		{"long line", "a=candidate:" + strings.Repeat("x", 2000), "too long", true},
		{"candidates without end", many(maxCandidates + 1), "more than 128", true},
	} {
		f, err := parseFragment(tt.in)
		got := fmt.Sprint(f)
		if f.String() != "" && !tt.fails {
			got = fmt.Sprint(struct {
				a, b, c string
				d       []string
				e       bool
			}{f.ufrag, f.pwd, f.mid, f.candidates, f.end})
		}
		if err != nil {
			got = err.Error()
		}
		if (err != nil) != tt.fails || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "a=candidate:%d\r\n", i)
	}
	return b.String()
}

func TestICEOfAnAnswer(t *testing.T) {
	f := iceOf("v=0\r\ns=-\r\nm=video 9 X 96\r\na=mid:v\r\na=ice-ufrag:boxx\r\na=ice-pwd:boxxboxxboxxboxxboxxboxx\r\na=candidate:1\r\na=end-of-candidates\r\nm=audio 9 X 0\r\na=mid:a\r\na=ice-ufrag:boxx\r\na=candidate:1\r\n")
	if want := "a=ice-ufrag:boxx\r\na=ice-pwd:boxxboxxboxxboxxboxxboxx\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:v\r\na=candidate:1\r\na=end-of-candidates\r\n"; f.String() != want {
		t.Errorf("got\n%s\nwant\n%s", f, want)
	}
}

func FuzzFragment(f *testing.F) {
	f.Add("a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\na=end-of-candidates\r\n")
	f.Add("a=candidate:\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, body string) {
		frag, err := parseFragment(body)
		if err != nil || frag.ufrag == "" || frag.pwd == "" {
			return
		}
		again, err := parseFragment(frag.String())
		if err != nil || fmt.Sprint(again) != fmt.Sprint(frag) {
			t.Errorf("%q written and read again: %v, %+v", body, err, again)
		}
	})
}
