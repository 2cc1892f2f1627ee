package auth

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Errors that callers branch on.
var (
	// ErrToken: the token is missing, malformed, forged, expired, not valid
	// yet, or revoked (HTTP 401).
	ErrToken = errors.New("token refused")
	// ErrReplay: a token that is good for one use came a second time (HTTP
	// 401, JSON-RPC -32008). It wraps ErrToken.
	ErrReplay = fmt.Errorf("%w: used before", ErrToken)
)

// Bounds on what a token may make the box remember or parse.
const (
	maxToken  = 8 << 10 // bytes
	maxID     = 128     // bytes of jti
	maxUsed   = 16384   // single-use tokens remembered until they expire
	maxGlobs  = 256
	maxRights = 16
)

// wireClaims is the token's payload (RFC 7519 §4 plus cameras, may, once).
type wireClaims struct {
	jwt.RegisteredClaims
	Cameras []string `json:"cameras,omitempty"`
	May     []Right  `json:"may"`
	Once    bool     `json:"once,omitempty"`
}

// KeyID names a public key in a token's kid header: the first 8 bytes of its
// SHA-256, in hex.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// Sign makes a token (JWT, EdDSA of RFC 8037) from claims. Expires is
// required, and ID where Once is set.
func Sign(key ed25519.PrivateKey, c Claims) (string, error) {
	if len(key) != ed25519.PrivateKeySize {
		return "", errors.New("token: no key")
	}
	if c.Expires.IsZero() {
		return "", errors.New("token: no expiry")
	}
	if c.Once && c.ID == "" {
		return "", errors.New("token: single use needs an ID")
	}
	w := wireClaims{Cameras: c.Cameras, May: c.May, Once: c.Once}
	w.Subject, w.ID = c.Subject, c.ID
	w.ExpiresAt = jwt.NewNumericDate(c.Expires)
	if !c.NotBefore.IsZero() {
		w.NotBefore = jwt.NewNumericDate(c.NotBefore)
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, w)
	t.Header["kid"] = KeyID(key.Public().(ed25519.PublicKey))
	s, err := t.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	return s, nil
}

// Verifier checks tokens against the box's own key and the consoles' keys.
// All methods may be called from many goroutines at once.
type Verifier struct {
	own ed25519.PublicKey

	mu      sync.Mutex                   // guards all below
	keys    map[string]ed25519.PublicKey // by KeyID
	used    map[string]time.Time         // single-use IDs → when they expire
	revoked map[string]bool              // IDs and, with prefix "key ", KeyIDs
}

// NewVerifier makes a Verifier. own may be nil.
func NewVerifier(own ed25519.PublicKey, console []ed25519.PublicKey) *Verifier {
	v := &Verifier{own: own, used: map[string]time.Time{}, revoked: map[string]bool{}}
	v.SetConsole(console)
	return v
}

// SetConsole replaces the consoles' keys, as when the configuration changes.
// Keys of a wrong size are left out.
func (v *Verifier) SetConsole(console []ed25519.PublicKey) {
	keys := make(map[string]ed25519.PublicKey, len(console)+1)
	for _, k := range append(slices.Clone(console), v.own) {
		if len(k) == ed25519.PublicKeySize {
			keys[KeyID(k)] = k
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keys = keys
}

// Revoke refuses the tokens with these IDs (jti) from now on.
func (v *Verifier) Revoke(ids ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, id := range ids {
		v.revoked[id] = true
	}
}

// RevokeKey refuses every token signed by the keys with these KeyIDs from now
// on, also when SetConsole names the key again.
func (v *Verifier) RevokeKey(kids ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, kid := range kids {
		v.revoked["key "+kid] = true
	}
}

// Verify checks a token at a moment and returns what it permits. A single-use
// token is used up by the first Verify that succeeds. Every error wraps
// [ErrToken]; none contains the token.
func (v *Verifier) Verify(token string, now time.Time) (Grant, error) {
	if token == "" {
		return Grant{}, fmt.Errorf("%w: none given", ErrToken)
	}
	if len(token) > maxToken {
		return Grant{}, fmt.Errorf("%w: too long", ErrToken)
	}
	var w wireClaims
	_, err := jwt.NewParser(
		jwt.WithValidMethods([]string{"EdDSA"}), // RFC 8725 §3.1: never trust the header's choice
		jwt.WithExpirationRequired(),
		jwt.WithTimeFunc(func() time.Time { return now }),
	).ParseWithClaims(token, &w, v.key)
	if err != nil {
		return Grant{}, fmt.Errorf("%w: %s", ErrToken, reason(err))
	}
	if len(w.Cameras) > maxGlobs || len(w.May) > maxRights || len(w.ID) > maxID {
		return Grant{}, fmt.Errorf("%w: claims too long", ErrToken)
	}
	c := Claims{Subject: w.Subject, Cameras: w.Cameras, May: w.May, Expires: w.ExpiresAt.Time, ID: w.ID, Once: w.Once}
	if w.NotBefore != nil {
		c.NotBefore = w.NotBefore.Time
	}
	if err := v.spend(c, now); err != nil {
		return Grant{}, err
	}
	return Grant{Claims: c}, nil
}

// reason says why a token was refused in words of our own: the parser's text
// may quote what a stranger wrote.
func reason(err error) string {
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return "expired"
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return "not valid yet"
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return "no expiry"
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		return "unknown key"
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return "wrong signature or algorithm"
	case errors.Is(err, jwt.ErrTokenMalformed):
		return "malformed"
	}
	return "invalid claims"
}

// key chooses the keys that a token's signature is tried with: the one that
// its kid names, or all where it names none.
func (v *Verifier) key(t *jwt.Token) (any, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	named, has := t.Header["kid"]
	kid, _ := named.(string)
	var set jwt.VerificationKeySet
	for id, k := range v.keys {
		if v.revoked["key "+id] || has && id != kid {
			continue
		}
		set.Keys = append(set.Keys, k)
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("unknown key")
	}
	return set, nil
}

// spend refuses what was revoked or used before, and remembers a single use.
func (v *Verifier) spend(c Claims, now time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c.ID != "" && v.revoked[c.ID] {
		return fmt.Errorf("%w: revoked", ErrToken)
	}
	if !c.Once {
		return nil
	}
	if c.ID == "" {
		return fmt.Errorf("%w: single use without jti", ErrToken)
	}
	if _, ok := v.used[c.ID]; ok {
		return ErrReplay
	}
	if len(v.used) >= maxUsed {
		for id, exp := range v.used {
			if !exp.After(now) {
				delete(v.used, id)
			}
		}
	}
	if len(v.used) >= maxUsed { // fail closed: forgetting one would let it in twice
		return fmt.Errorf("%w: too many single-use tokens outstanding", ErrToken)
	}
	v.used[c.ID] = c.Expires
	return nil
}
