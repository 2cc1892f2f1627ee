package wire

import (
	"encoding/json"
	"testing"
)

// The bytes of the retained states are the contract with every console.
func TestJSON(t *testing.T) {
	rev := Revision{Epoch: 1, Rev: 42}
	full := Revision{Epoch: 1, Rev: 42, Hash: "beef"}
	tests := []struct {
		name string
		v    any
		want string
	}{
		{"on", Presence{V: Version, State: On, Conn: 417, Boot: "b", Version: "1.4.0", Config: rev, T: 1700000000000, Clock: "synced"},
			`{"v":1,"state":"on","conn":417,"boot":"b","version":"1.4.0","config":{"epoch":1,"rev":42},"t":1700000000000,"clock":"synced"}`},
		{"off", Presence{V: Version, State: Off, Reason: ReasonLost, Conn: 417, Boot: "b", Version: "1.4.0", Config: rev, T: 1, Clock: "none"},
			`{"v":1,"state":"off","reason":"lost","conn":417,"boot":"b","version":"1.4.0","config":{"epoch":1,"rev":42},"t":1,"clock":"none"}`},
		{"reported", Reported{V: Version, Good: full, Running: full, Source: "file", Conn: 417},
			`{"v":1,"good":{"epoch":1,"rev":42,"hash":"beef"},"running":{"epoch":1,"rev":42,"hash":"beef"},"source":"file","drift":false,"conn":417}`},
		{"statistics", Stats{V: Version, Stream: "s", Seq: 1234, Boot: "b", Conn: 417, Config: rev, Clock: "synced", Windows: []Window{{From: 1, To: 60001, Seconds: 60}}},
			`{"v":1,"stream":"s","seq":1234,"boot":"b","conn":417,"config":{"epoch":1,"rev":42},"clock":"synced","windows":[{"from":1,"to":60001,"s":60}]}`},
		{"gap", Stats{V: Version, Stream: "s", Seq: 7, Boot: "b", Config: rev, Clock: "rtc", Windows: []Window{}, Gap: &Gap{From: 1, To: 2, Reason: "full", Windows: 5}},
			`{"v":1,"stream":"s","seq":7,"boot":"b","conn":0,"config":{"epoch":1,"rev":42},"clock":"rtc","windows":[],"gap":{"from":1,"to":2,"reason":"full","windows":5}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := json.Marshal(tt.v)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestTopics(t *testing.T) {
	root := Root("acme", "abcdefghijklmnopqrstuvwx23")
	for topic, want := range map[string]string{
		root + TopicPresence: "edged/1/acme/abcdefghijklmnopqrstuvwx23/up/presence",
		root + TopicConfig:   "edged/1/acme/abcdefghijklmnopqrstuvwx23/up/config",
		root + TopicStats:    "edged/1/acme/abcdefghijklmnopqrstuvwx23/up/stats",
		root + FilterDown:    "edged/1/acme/abcdefghijklmnopqrstuvwx23/dn/#",
	} {
		if topic != want {
			t.Errorf("got %s, want %s", topic, want)
		}
	}
}
