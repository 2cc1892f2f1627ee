package receive

// descriptorVP8 reads the payload descriptor (RFC 7741, 4.2): where the frame
// goes on, and whether it begins here.
func descriptorVP8(b []byte) (size int, begins, ok bool) {
	begins = b[0]&0x17 == 0x10 // S, of partition 0
	if b[0]&0x80 == 0 {
		return 1, begins, len(b) > 1
	}
	if len(b) < 2 {
		return 0, false, false
	}
	flags := b[1]
	size = 2
	if flags&0x80 != 0 { // I: a PictureID of 7 or 15 bits
		if len(b) <= size {
			return 0, false, false
		}
		size += 1 + int(b[size]>>7)
	}
	if flags&0x40 != 0 { // L: TL0PICIDX
		size++
	}
	if flags&0x30 != 0 { // T or K
		size++
	}
	return size, begins, len(b) > size
}

func beginsVP8(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	_, begins, ok := descriptorVP8(b)
	return begins && ok
}

func takeVP8(a *Assembler, b []byte) bool {
	size, begins, ok := descriptorVP8(b)
	return a.piece(b, size, begins, ok)
}

// piece takes a piece of the one frame that a unit has, behind its descriptor.
func (a *Assembler) piece(b []byte, size int, begins, ok bool) bool {
	switch {
	case !ok:
		a.damaged = true
		return false
	case !begins:
		a.extend(b[size:])
	case len(a.ends) > 0: // a second frame at the same time
		a.damaged = true
	default:
		a.add(b[size:])
	}
	return true
}

// descriptorVP9 reads the payload descriptor (RFC 9628, 4.2). Spatial layers
// make no sense here: a camera's layers are streams of their own.
func descriptorVP9(b []byte) (size int, begins, ok bool) {
	flags, size := b[0], 1
	begins = flags&0x08 != 0
	if flags&0x80 != 0 { // I: a picture ID of 7 or 15 bits
		if len(b) <= size {
			return 0, false, false
		}
		size += 1 + int(b[size]>>7)
	}
	flexible := flags&0x10 != 0
	if flags&0x20 != 0 { // L: layer indices
		if len(b) <= size || b[size]>>1&7 != 0 { // SID
			return 0, false, false
		}
		size++
		if !flexible {
			size++ // TL0PICIDX
		}
	}
	if flexible && flags&0x40 != 0 { // reference indices, of which the last has no N bit
		for i, more := 0, true; more; i++ {
			if i == 3 || len(b) <= size {
				return 0, false, false
			}
			more = b[size]&1 != 0
			size++
		}
	}
	if flags&0x02 != 0 { // V
		n, ok := structureVP9(b[min(size, len(b)):])
		if !ok {
			return 0, false, false
		}
		size += n
	}
	return size, begins, len(b) > size
}

// structureVP9 gives the size of the scalability structure (4.2.1).
func structureVP9(b []byte) (size int, ok bool) {
	if len(b) == 0 {
		return 0, false
	}
	size = 1
	if b[0]&0x10 != 0 { // Y: width and height of each of N_S + 1 layers
		size += 4 * (int(b[0]>>5) + 1)
	}
	if b[0]&0x08 == 0 { // G
		return size, true
	}
	if len(b) <= size {
		return 0, false
	}
	pictures := int(b[size])
	size++
	for range pictures {
		if len(b) <= size {
			return 0, false
		}
		size += 1 + int(b[size]>>2&3) // R reference indices
	}
	return size, true
}

func beginsVP9(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	_, begins, ok := descriptorVP9(b)
	return begins && ok
}

func takeVP9(a *Assembler, b []byte) bool {
	size, begins, ok := descriptorVP9(b)
	return a.piece(b, size, begins, ok)
}
