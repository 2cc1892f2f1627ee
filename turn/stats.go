package turn

import "sync/atomic"

// Stats is what the relay has done since it started. Counters only rise.
type Stats struct {
	Allocations  int               // alive now
	RelayedIn    uint64            // payload bytes, viewers → SFU
	RelayedOut   uint64            // payload bytes, SFU → viewers
	AuthFailures uint64            // requests with wrong, expired or malformed credentials
	DeniedPeers  uint64            // permissions, channels and datagrams for anyone but the SFU
	Failures     map[string]uint64 // datagrams and requests refused, by reason
}

type failure int

const (
	failNone failure = iota
	failMalformed
	failOversize
	failRate
	failLapse
	failLifetime
	failNoAllocation
	failWrongUser
	failUnsupported
	failKeepalive
	failQuota
	failLimit
	failStranger
	failSocket
	failures // how many
)

var failureNames = [failures]string{
	failMalformed:    "malformed",
	failOversize:     "oversize",
	failRate:         "rate",
	failLapse:        "lapsing",
	failLifetime:     "lifetime",
	failNoAllocation: "no_allocation",
	failWrongUser:    "wrong_user",
	failUnsupported:  "unsupported",
	failKeepalive:    "keepalive",
	failQuota:        "quota",
	failLimit:        "limit",
	failStranger:     "stranger",
	failSocket:       "socket",
}

type counters struct {
	in, out, auth, denied atomic.Uint64
	failed                [failures]atomic.Uint64
}

func (c *counters) add(f failure) { c.failed[f].Add(1) }

func (c *counters) stats(allocations int) Stats {
	s := Stats{
		Allocations:  allocations,
		RelayedIn:    c.in.Load(),
		RelayedOut:   c.out.Load(),
		AuthFailures: c.auth.Load(),
		DeniedPeers:  c.denied.Load(),
		Failures:     make(map[string]uint64, failures),
	}
	for f := failNone + 1; f < failures; f++ {
		s.Failures[failureNames[f]] = c.failed[f].Load()
	}
	return s
}
