// Package ui holds the web page: static files, served as they are. There is
// no build step, and the page fetches nothing from anywhere but the box.
package ui

import "embed"

// FS has index.html at its root. The page works under a content security
// policy of default-src 'self': it has no inline script and no inline style.
//
//go:embed index.html style.css icon.svg js/*.js
var FS embed.FS
