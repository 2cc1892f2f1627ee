package turn

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

// maxSubject is how much of a subject a username carries, in bytes.
const maxSubject = 64

var (
	errUsername = errors.New("username is not expiry:subject")
	errExpired  = errors.New("credential has expired")
)

// password is HMAC-SHA1 of the username under the shared secret, in base64:
// the scheme that TURN servers call the REST API (draft-uberti-behave-turn-rest).
func password(secret []byte, username string) string {
	mac := hmac.New(sha1.New, secret)
	mac.Write([]byte(username))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// longTermKey is the key of the long-term credential mechanism (RFC 8489 §9.2.2).
func longTermKey(username, realm, password string) []byte {
	sum := md5.Sum([]byte(username + ":" + realm + ":" + password))
	return sum[:]
}

// parseUsername splits expiry:subject.
func parseUsername(username string) (subject string, expires time.Time, err error) {
	stamp, subject, ok := strings.Cut(username, ":")
	if !ok || subject == "" || len(username) > maxUsername || len(stamp) == 0 || len(stamp) > 12 || stamp[0] < '0' || stamp[0] > '9' {
		return "", time.Time{}, errUsername
	}
	sec, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return "", time.Time{}, errUsername
	}
	return subject, time.Unix(sec, 0), nil
}

// Credentials makes a username and a password that open allocations for ttl
// (rounded up to a second). An allocation that is alive when they expire lives
// on for as long as its owner refreshes it. The password is a bearer secret:
// keep it out of logs and URLs. Each call makes another user for the quota,
// since several viewers may share a subject, who is named for whoever reads the
// traffic and cut where long. Safe for concurrent use, also before Run.
func (r *Relay) Credentials(subject string, ttl time.Duration) (username, pass string, expires time.Time) {
	expires = r.now().Add(ttl + time.Second - 1).Truncate(time.Second)
	if len(subject) > maxSubject {
		subject = strings.ToValidUTF8(subject[:maxSubject], "")
	}
	username = strconv.FormatInt(expires.Unix(), 10) + ":" + subject + "." + rand.Text()[:8]
	return username, password(r.secret, username), expires
}
