// Package auth turns a token into a [Grant]: who may do what with which
// cameras. It is pure: time is given, nothing is read or written, and tokens
// are checked without asking anybody.
package auth

import (
	"path"
	"slices"
	"time"
)

// Right is something that a token may permit.
type Right string

// The rights.
const (
	View    Right = "view"    // watch cameras
	Publish Right = "publish" // send pictures to a camera of kind whip
	Metrics Right = "metrics" // read /metrics
	Admin   Right = "admin"   // read and replace the configuration; implies Metrics
)

// Claims is what a token says (RFC 7519).
type Claims struct {
	Subject   string    // who, for the log and the topology
	Cameras   []string  // globs as of path.Match; empty: none
	May       []Right   //
	Expires   time.Time // required
	NotBefore time.Time // zero: at once
	ID        string    // jti; required where Once
	Once      bool      // the token is good for one use
}

// Grant is what a verified token permits.
type Grant struct {
	Claims
	Open bool // anybody may view here (auth.open), whatever the token says
}

// OpenGrant is the grant of those without a token where auth.open is set: to
// view every camera, never to publish or to administer. It does not expire.
func OpenGrant() Grant {
	return Grant{Claims: Claims{Subject: "anonymous"}, Open: true}
}

// Allows tells whether the grant permits right on a camera. An empty camera
// asks for the right as such: on any camera, or on the box.
func (g Grant) Allows(right Right, camera string) bool {
	if g.Open && right == View {
		return true
	}
	if !slices.Contains(g.May, right) && (right != Metrics || !slices.Contains(g.May, Admin)) {
		return false
	}
	if camera == "" || right == Metrics || right == Admin {
		return true
	}
	return slices.ContainsFunc(g.Cameras, func(glob string) bool {
		ok, err := path.Match(glob, camera)
		return ok && err == nil
	})
}
