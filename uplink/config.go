package uplink

import "time"

// Config is the `uplink` and `stats` sections of the configuration, checked.
type Config struct {
	Enabled    bool
	Servers    []string // mqtt://, mqtts://, ws://, wss://; tried in turn
	Tenant     string   // [a-z0-9-]{1,16}
	ClientCert string   // PEM file
	ClientKey  string   // PEM file
	CA         string   // PEM file; empty: the system's
	Username   string
	Password   Secret
	Window     time.Duration // of one statistics window
	Batch      int           // windows a message
}

// Secret is a text that is never printed, logged or marshalled.
type Secret string

// String hides the secret.
func (Secret) String() string { return "***" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "***" }

// MarshalJSON hides the secret.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"***"`), nil }
