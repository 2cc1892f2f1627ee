package turn

import "net/netip"

// Config is the `turn` section of the configuration, checked.
type Config struct {
	Enabled        bool
	Listen         string     // UDP listen address, e.g. ":3478"; port 0 means any
	Realm          string     // RFC 8489 §9.2
	PublicIP       netip.Addr // offered to viewers and as relay address; invalid: the address the viewer used
	MaxAllocations int        // in all
	PerUser        int        // allocations a user (one viewer session)
}
