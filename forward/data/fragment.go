package data

import "encoding/binary"

// A record that is longer than MaxMessage goes in fragments: messages of
// bytes, not of text, that begin with the record's number (32 bits), the
// part's from 0, and how many parts there are (16 bits each), in network
// order. On an unreliable channel a long message costs more than its length:
// with one of its packets all of it is lost, and meanwhile what follows waits.
const (
	// MaxMessage is the most bytes of a message on meta.
	MaxMessage = 1024

	fragmentHeader = 8
	maxParts       = 32
	assembled      = 4 // records under way at once
)

// fragments cuts a record for the wire; each part's memory is its own.
func fragments(id uint32, record []byte) (parts [][]byte) {
	const most = MaxMessage - fragmentHeader
	of := (len(record) + most - 1) / most
	for i := range of {
		p := make([]byte, fragmentHeader, MaxMessage)
		binary.BigEndian.PutUint32(p, id)
		binary.BigEndian.PutUint16(p[4:], uint16(i))
		binary.BigEndian.PutUint16(p[6:], uint16(of))
		parts = append(parts, append(p, record[i*most:min(len(record), (i+1)*most)]...))
	}
	return parts
}

// Assembler puts records together again: the viewer's end of meta. It keeps
// no more than a few records of a few parts; one that lacks a part is
// forgotten when newer ones come. The zero value is ready; it is for one
// goroutine at a time.
type Assembler struct {
	records []partial // oldest first
}

type partial struct {
	id    uint32
	parts [][]byte
	lacks int
}

// Add takes a message of bytes and gives the record that it completes, nil
// while there is none. It keeps nothing of message.
func (a *Assembler) Add(message []byte) (record []byte) {
	if len(message) <= fragmentHeader || len(message) > MaxMessage {
		return nil
	}
	id := binary.BigEndian.Uint32(message)
	part, of := int(binary.BigEndian.Uint16(message[4:])), int(binary.BigEndian.Uint16(message[6:]))
	if of > maxParts || part >= of {
		return nil
	}
	i := 0
	for i < len(a.records) && a.records[i].id != id {
		i++
	}
	if i == len(a.records) {
		if i == assembled {
			a.records, i = append(a.records[:0], a.records[1:]...), i-1
		}
		a.records = append(a.records, partial{id, make([][]byte, of), of})
	}
	p := &a.records[i]
	if len(p.parts) != of || p.parts[part] != nil {
		return nil // of another record with this number, or a part that came twice
	}
	p.parts[part] = append([]byte(nil), message[fragmentHeader:]...)
	if p.lacks--; p.lacks > 0 {
		return nil
	}
	for _, b := range p.parts {
		record = append(record, b...)
	}
	a.records = append(a.records[:i], a.records[i+1:]...)
	return record
}
