package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// key makes a key pair from a seed, so that failures repeat.
func key(t testing.TB, seed byte) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	k := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	return k.Public().(ed25519.PublicKey), k
}

func sign(t testing.TB, k ed25519.PrivateKey, c Claims) string {
	t.Helper()
	s, err := Sign(k, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// forge makes a token of any header and payload, signed by sig.
func forge(header, payload map[string]any, sig func(input string) []byte) string {
	enc := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	input := enc(header) + "." + enc(payload)
	return input + "." + base64.RawURLEncoding.EncodeToString(sig(input))
}

func viewer() Claims {
	return Claims{Subject: "ann", Cameras: []string{"dock", "gate-*"}, May: []Right{View}, Expires: now.Add(time.Hour)}
}

func TestSignedTokenIsGrantedAsClaimed(t *testing.T) {
	pub, priv := key(t, 1)
	want := viewer()
	want.NotBefore, want.ID = now.Add(-time.Minute), "one"
	g, err := NewVerifier(pub, nil).Verify(sign(t, priv, want), now)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(g.Subject, g.Cameras, g.May, g.ID, g.Expires.UTC(), g.NotBefore.UTC(), g.Once, g.Open) !=
		fmt.Sprint(want.Subject, want.Cameras, want.May, want.ID, want.Expires, want.NotBefore, false, false) {
		t.Errorf("got %+v\nwant %+v", g, want)
	}
}

func TestSignRefusesClaimsThatNobodyWouldTake(t *testing.T) {
	_, priv := key(t, 1)
	once := viewer()
	once.Once = true
	endless := viewer()
	endless.Expires = time.Time{}
	for name, c := range map[string]Claims{"single use without ID": once, "no expiry": endless} {
		if s, err := Sign(priv, c); err == nil {
			t.Errorf("%s: signed %s", name, s)
		}
	}
	if _, err := Sign(nil, viewer()); err == nil {
		t.Error("signed without a key")
	}
}

func TestRefusedTokens(t *testing.T) {
	pub, priv := key(t, 1)
	_, stranger := key(t, 2)
	good := sign(t, priv, viewer())
	parts := strings.Split(good, ".")
	ed := func(input string) []byte { return ed25519.Sign(priv, []byte(input)) }
	header := func(alg string) map[string]any { return map[string]any{"alg": alg, "typ": "JWT"} }
	payload := func(kv ...any) map[string]any {
		p := map[string]any{"sub": "ann", "may": []string{"view"}, "cameras": []string{"*"}, "exp": now.Add(time.Hour).Unix()}
		for i := 0; i < len(kv); i += 2 {
			if p[kv[i].(string)] = kv[i+1]; kv[i+1] == nil {
				delete(p, kv[i].(string))
			}
		}
		return p
	}
	hs256 := func(input string) []byte { // the public key taken for a shared secret
		m := hmac.New(sha256.New, pub)
		m.Write([]byte(input))
		return m.Sum(nil)
	}
	late, early := viewer(), viewer()
	late.Expires = now.Add(-time.Second)
	early.NotBefore = now.Add(time.Hour)
	for name, token := range map[string]string{
		"empty":                   "",
		"no token":                "hello",
		"two parts":               parts[0] + "." + parts[1],
		"signature cut off":       parts[0] + "." + parts[1] + ".",
		"signature of another":    parts[0] + "." + parts[1] + "." + strings.Split(sign(t, stranger, viewer()), ".")[2],
		"key of a stranger":       sign(t, stranger, viewer()),
		"expired":                 sign(t, priv, late),
		"not valid yet":           sign(t, priv, early),
		"alg none":                forge(header("none"), payload(), func(string) []byte { return nil }),
		"alg None":                forge(header("None"), payload(), func(string) []byte { return nil }),
		"alg none, real signed":   forge(header("none"), payload(), ed),
		"alg HS256 by public key": forge(header("HS256"), payload(), hs256),
		"alg ES256":               forge(header("ES256"), payload(), ed),
		"no alg":                  forge(map[string]any{"typ": "JWT"}, payload(), ed),
		"no exp":                  forge(header("EdDSA"), payload("exp", nil), ed),
		"exp null-like":           forge(header("EdDSA"), payload("exp", "soon"), ed),
		"exp beyond time":         forge(header("EdDSA"), payload("exp", 1e300), ed),
		"unknown kid":             forge(map[string]any{"alg": "EdDSA", "kid": "feed"}, payload(), ed),
		"kid no text":             forge(map[string]any{"alg": "EdDSA", "kid": 7}, payload(), ed),
		"once without jti":        forge(header("EdDSA"), payload("once", true), ed),
		"may no list":             forge(header("EdDSA"), payload("may", "admin"), ed),
		"long jti":                forge(header("EdDSA"), payload("jti", strings.Repeat("x", 500)), ed),
		"too long":                sign(t, priv, Claims{Subject: strings.Repeat("x", 9000), Expires: now.Add(time.Hour)}),
	} {
		g, err := NewVerifier(pub, nil).Verify(token, now)
		if !errors.Is(err, ErrToken) {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
		if err != nil && len(token) > 20 && strings.Contains(err.Error(), token[:20]) {
			t.Errorf("%s: the error has the token: %v", name, err)
		}
	}
	if _, err := NewVerifier(pub, nil).Verify(forge(header("EdDSA"), payload(), ed), now); err != nil {
		t.Errorf("the forge's own good token: %v", err) // or the table above proves nothing
	}
}

func TestConsoleKeysAndRevocation(t *testing.T) {
	own, _ := key(t, 1)
	pub2, priv2 := key(t, 2)
	pub3, priv3 := key(t, 3)
	v := NewVerifier(own, []ed25519.PublicKey{pub2, {1, 2, 3}})
	check := func(when string, k ed25519.PrivateKey, id string, want bool) {
		t.Helper()
		c := viewer()
		c.ID = id
		if _, err := v.Verify(sign(t, k, c), now); (err == nil) != want {
			t.Errorf("%s: %v", when, err)
		}
	}
	check("console key", priv2, "a", true)
	check("key not installed", priv3, "a", false)
	v.SetConsole([]ed25519.PublicKey{pub3, pub2})
	check("key installed", priv3, "a", true)
	v.Revoke("b")
	check("revoked ID", priv3, "b", false)
	check("other ID", priv3, "c", true)
	v.RevokeKey(KeyID(pub3))
	check("revoked key", priv3, "c", false)
	v.SetConsole([]ed25519.PublicKey{pub3})
	check("revoked key installed again", priv3, "c", false)
	check("key taken away", priv2, "c", false)
}

func TestSingleUseIsSpentOnce(t *testing.T) {
	pub, priv := key(t, 1)
	v := NewVerifier(pub, nil)
	c := viewer()
	c.Once, c.ID = true, "ticket"
	token := sign(t, priv, c)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won, replays := 0, 0
	for range 32 {
		wg.Go(func() {
			_, err := v.Verify(token, now)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won++
			case errors.Is(err, ErrReplay) && errors.Is(err, ErrToken):
				replays++
			}
		})
	}
	wg.Wait()
	if won != 1 || replays != 31 {
		t.Errorf("%d let in, %d replays", won, replays)
	}
}

func TestSingleUseMemoryIsBoundedAndFailsClosed(t *testing.T) {
	v := NewVerifier(nil, nil)
	for i := range maxUsed {
		if err := v.spend(Claims{Once: true, ID: fmt.Sprint(i), Expires: now.Add(time.Hour)}, now); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := v.spend(Claims{Once: true, ID: "more", Expires: now.Add(time.Hour)}, now); !errors.Is(err, ErrToken) {
		t.Errorf("one more than fit: %v", err)
	}
	later := now.Add(2 * time.Hour)
	if err := v.spend(Claims{Once: true, ID: "later", Expires: later.Add(time.Hour)}, later); err != nil {
		t.Errorf("after all have expired: %v", err)
	}
	if len(v.used) != 1 {
		t.Errorf("%d remembered after all have expired", len(v.used))
	}
}

func TestGrantAllows(t *testing.T) {
	grant := func(cameras string, may ...Right) Grant {
		return Grant{Claims: Claims{Cameras: strings.Fields(cameras), May: may}}
	}
	for _, tt := range []struct {
		name   string
		grant  Grant
		right  Right
		camera string
		want   bool
	}{
		{"named camera", grant("dock", View), View, "dock", true},
		{"other camera", grant("dock", View), View, "gate", false},
		{"glob", grant("gate-*", View), View, "gate-7", true},
		{"glob is whole", grant("gate", View), View, "gate-7", false},
		{"all", grant("*", View), View, "anything", true},
		{"no cameras", grant("", View), View, "dock", false},
		{"right as such", grant("", View), View, "", true},
		{"other right", grant("*", View), Publish, "dock", false},
		{"bad glob matches nothing", grant("[", View), View, "[", false},
		{"admin needs no camera", grant("", Admin), Admin, "", true},
		{"admin reads metrics", grant("", Admin), Metrics, "", true},
		{"admin does not view", grant("*", Admin), View, "dock", false},
		{"metrics", grant("", Metrics), Metrics, "", true},
		{"metrics is not admin", grant("*", Metrics), Admin, "", false},
		{"nothing", Grant{}, View, "", false},
		{"open views", OpenGrant(), View, "dock", true},
		{"open publishes not", OpenGrant(), Publish, "dock", false},
		{"open administers not", OpenGrant(), Admin, "", false},
		{"open reads no metrics", OpenGrant(), Metrics, "", false},
	} {
		if got := tt.grant.Allows(tt.right, tt.camera); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestGate(t *testing.T) {
	pub, priv := key(t, 1)
	g := NewGate(NewVerifier(pub, nil), false)
	admin := sign(t, priv, Claims{May: []Right{Admin}, Expires: now.Add(time.Hour)})
	if _, err := g.Grant("", now); !errors.Is(err, ErrToken) {
		t.Errorf("closed, no token: %v", err)
	}
	g.SetOpen(true)
	if grant, err := g.Grant("", now); err != nil || !grant.Allows(View, "dock") || grant.Allows(Admin, "") {
		t.Errorf("open, no token: %+v %v", grant, err)
	}
	if _, err := g.Grant("nonsense", now); !errors.Is(err, ErrToken) {
		t.Errorf("open, bad token: %v", err)
	}
	if grant, err := g.Grant(admin, now); err != nil || !grant.Allows(View, "dock") || !grant.Allows(Admin, "") {
		t.Errorf("open, admin's token: %+v %v", grant, err)
	}
}

func TestThrottle(t *testing.T) {
	var th Throttle
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for i := range throttleBurst {
		if w := th.Refuse(a, now); w != 0 {
			t.Fatalf("refusal %d waits %v", i, w)
		}
	}
	if w := th.Refuse(a, now); w != throttleRefill {
		t.Errorf("after the burst: wait %v", w)
	}
	if w := th.Refuse(b, now); w != 0 {
		t.Errorf("another address waits %v", w)
	}
	if w := th.Refuse(a, now.Add(throttleRefill)); w != 0 {
		t.Errorf("after one refill: wait %v", w)
	}
	if w := th.Refuse(a, now.Add(throttleRefill)); w == 0 {
		t.Error("one refill gave two")
	}
	six := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	for range throttleBurst {
		th.Refuse(six("2001:db8::1"), now)
	}
	if th.Refuse(six("2001:db8::2"), now) == 0 {
		t.Error("the same /64 has a burst of its own")
	}
	if th.Refuse(six("2001:db8:0:1::2"), now) != 0 {
		t.Error("another /64 waits")
	}
	th.Refuse(netip.Addr{}, now) // unknown address: counted as one, no panic
	for i := range 3 * throttleMax {
		th.Refuse(netip.AddrFrom4([4]byte{9, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if len(th.full) > throttleMax {
		t.Errorf("%d addresses remembered", len(th.full))
	}
}

func FuzzVerify(f *testing.F) {
	pub, priv := key(f, 1)
	good := sign(f, priv, viewer())
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		g, err := NewVerifier(pub, nil).Verify(token, now)
		if err == nil && (g.Subject != "ann" || !g.Expires.After(now)) {
			t.Errorf("a token that was never signed: %q: %+v", token, g)
		}
		if err != nil && !errors.Is(err, ErrToken) {
			t.Errorf("untyped error: %v", err)
		}
	})
}
