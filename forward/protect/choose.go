package protect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Implementation is one way to do the arithmetic.
type Implementation struct {
	Name string // with its version
	make map[Profile]func(*sessionKeys) (sealer, error)
}

// Implementations are all in this build. Callers must not change the list.
var Implementations = sync.OnceValue(func() []*Implementation {
	return append([]*Implementation{golang}, foreign()...)
})

// New makes a protector with this implementation, whatever it costs here:
// see the function New.
func (i *Implementation) New(profile Profile, key, salt []byte) (*Protector, error) {
	k, err := derive(profile, key, salt)
	if err != nil {
		return nil, err
	}
	s, err := i.make[profile](&k)
	if err != nil {
		return nil, fmt.Errorf("%s: %v: %w", i.Name, profile, err)
	}
	return &Protector{profile: profile, sealer: s}, nil
}

// Cost is what an implementation of a profile takes for a packet of full size
// on this machine.
type Cost struct {
	*Implementation
	Profile Profile
	Packet  time.Duration
}

// Costs measures all implementations of all profiles, the cheapest first. It
// takes some milliseconds, once in a process; later calls get the same answer.
// Callers must not change it.
var Costs = sync.OnceValues(func() ([]Cost, error) {
	var all []Cost
	for _, i := range Implementations() {
		for _, profile := range Profiles {
			p, err := i.New(profile, make([]byte, KeySize), make([]byte, profile.SaltSize()))
			if err != nil {
				return nil, err
			}
			took, err := p.measure()
			if err != nil {
				return nil, err
			}
			all = append(all, Cost{i, profile, took})
		}
	}
	slices.SortStableFunc(all, func(a, b Cost) int { return cmp.Compare(a.Packet, b.Packet) })
	return all, nil
})

// Preferred are the profiles, the one that costs least here first: the order
// in which to negotiate them.
func Preferred() ([]Profile, error) {
	all, err := Costs()
	var profiles []Profile
	for _, c := range all {
		if !slices.Contains(profiles, c.Profile) {
			profiles = append(profiles, c.Profile)
		}
	}
	return profiles, err
}

// Best is the implementation of a profile that costs least here.
func Best(profile Profile) (*Implementation, error) {
	all, err := Costs()
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.Profile == profile {
			return c.Implementation, nil
		}
	}
	return nil, fmt.Errorf("%v is not known", profile)
}

// Summary says what was measured and so chosen, for people.
func Summary() (string, error) {
	all, err := Costs()
	var parts []string
	for _, c := range all {
		parts = append(parts, fmt.Sprintf("%v by %s %d ns a packet", c.Profile, c.Name, c.Packet.Nanoseconds()))
	}
	return strings.Join(parts, ", "), err
}

const (
	trialFrame  = 8    // packets
	trialPacket = 1162 // bytes, without the tag
	trials      = 12
)

// measure is the least time that a packet of full size took in some trials:
// what else the machine does meanwhile only adds.
func (p *Protector) measure() (time.Duration, error) {
	buf, ends := trial(p.profile, trialFrame, trialPacket)
	least := time.Duration(1<<63 - 1)
	for range trials {
		start := time.Now()
		if err := p.Seal(buf, ends); err != nil {
			return 0, err
		}
		least = min(least, time.Since(start)/trialFrame)
	}
	return least, nil
}

// trial is a frame of n empty packets of a size.
func trial(profile Profile, n, size int) (buf []byte, ends []int) {
	for i := range n {
		at := len(buf)
		buf = append(buf, make([]byte, size+profile.TagSize())...)
		buf[at], buf[at+3] = 0x80, byte(i)
		ends = append(ends, len(buf))
	}
	return buf, ends
}
