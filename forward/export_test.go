package forward

import "time"

// SetMemory has the box believe in so many bytes of available memory.
func (s *SFU) SetMemory(read func() int64) { s.memory = read }

// SetLoad has the box believe for a moment that it is so busy.
func (s *SFU) SetLoad(cpu float64, late time.Duration) { s.load.set(cpu, late) }

// Booked is what the box has booked of its uplink, in bits/s.
func (s *SFU) Booked() float64 { return s.budget.inUse() }
