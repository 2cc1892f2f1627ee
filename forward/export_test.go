package forward

// SetMemory has the box believe in so many bytes of available memory.
func (s *SFU) SetMemory(read func() int64) { s.memory = read }

// Booked is what the box has booked of its uplink, in bits/s.
func (s *SFU) Booked() float64 { return s.budget.inUse() }
