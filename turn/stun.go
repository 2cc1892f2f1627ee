package turn

import (
	"encoding/binary"
	"net/netip"

	"github.com/pion/stun/v3"
)

const (
	headerSize  = 20         // RFC 8489 §5
	magicCookie = 0x2112A442 // RFC 8489 §5
	maxUsername = 512        // RFC 8489 §14.3 says 509 bytes, padded to 512
	transUDP    = 17         // REQUESTED-TRANSPORT, RFC 8656 §18.7
	familyIPv4  = 1
	familyIPv6  = 2
)

// request is a STUN request or indication as the guard needs it: the header
// and the first occurrence of each attribute that it judges. Slices point into
// the datagram.
type request struct {
	method stun.Method
	class  stun.MessageClass
	id     [stun.TransactionIDSize]byte

	username    []byte
	nonce       []byte
	integrity   bool
	hasLifetime bool
	lifetime    uint32 // seconds
	transport   byte   // 0: absent
	family      byte   // 0: absent
	channel     uint16 // 0: absent
	peer        netip.AddrPort
	data        bool
}

// isChannelData reports whether b is a whole ChannelData message on a channel
// of RFC 5766 (RFC 8656 §12 has narrowed the range, older clients have not).
func isChannelData(b []byte) bool {
	return len(b) >= 4 && b[0]&0xC0 == 0x40 && int(binary.BigEndian.Uint16(b[2:])) <= len(b)-4
}

// parse reads a STUN message that must fill b. It is stricter than the decoder
// behind it, on purpose: that one slices an address attribute without looking
// at its length, which a short XOR-PEER-ADDRESS turns into a crash.
func parse(b []byte) (m request, ok bool) {
	if len(b) < headerSize || b[0]&0xC0 != 0 ||
		binary.BigEndian.Uint32(b[4:]) != magicCookie ||
		int(binary.BigEndian.Uint16(b[2:])) != len(b)-headerSize || len(b)%4 != 0 {
		return m, false
	}
	var t stun.MessageType
	t.ReadValue(binary.BigEndian.Uint16(b))
	m.method, m.class = t.Method, t.Class
	copy(m.id[:], b[8:headerSize])

	for rest := b[headerSize:]; len(rest) > 0; {
		if len(rest) < 4 {
			return m, false
		}
		typ := stun.AttrType(binary.BigEndian.Uint16(rest))
		n := int(binary.BigEndian.Uint16(rest[2:]))
		padded := (n + 3) &^ 3
		if padded > len(rest)-4 {
			return m, false
		}
		if !m.attribute(typ, rest[4:4+n]) {
			return m, false
		}
		rest = rest[4+padded:]
	}
	return m, true
}

// attribute takes one attribute; false means that it has no right to be so.
func (m *request) attribute(typ stun.AttrType, v []byte) bool {
	if m.integrity && typ != stun.AttrFingerprint && typ != stun.AttrMessageIntegritySHA256 {
		return false // RFC 8489 §14.5: what follows is unsigned, yet the decoder behind would read it
	}
	switch typ {
	case stun.AttrMessageIntegrity:
		m.integrity = true
		return len(v) == 20
	case stun.AttrFingerprint:
		return len(v) == 4
	case stun.AttrUsername:
		if m.username == nil {
			m.username = v
		}
		return len(v) > 0 && len(v) <= maxUsername
	case stun.AttrNonce:
		if m.nonce == nil {
			m.nonce = v
		}
		return len(v) <= 763 // RFC 8489 §14.10
	case stun.AttrLifetime:
		if len(v) == 4 && !m.hasLifetime {
			m.hasLifetime, m.lifetime = true, binary.BigEndian.Uint32(v)
		}
		return len(v) == 4
	case stun.AttrRequestedTransport:
		if len(v) == 4 && m.transport == 0 {
			m.transport = v[0]
		}
		return len(v) == 4 && v[0] != 0
	case stun.AttrRequestedAddressFamily:
		if len(v) == 4 && m.family == 0 {
			m.family = v[0]
		}
		return len(v) == 4 && v[0] != 0
	case stun.AttrChannelNumber:
		if len(v) == 4 && m.channel == 0 {
			m.channel = binary.BigEndian.Uint16(v)
		}
		return len(v) == 4
	case stun.AttrXORPeerAddress:
		return m.peerAddress(v)
	case stun.AttrData:
		m.data = true
	}
	return true
}

// peerAddress takes an XOR-PEER-ADDRESS (RFC 8489 §14.2).
func (m *request) peerAddress(v []byte) bool {
	if len(v) < 8 || v[0] != 0 {
		return false
	}
	var mask [16]byte
	binary.BigEndian.PutUint32(mask[:], magicCookie)
	copy(mask[4:], m.id[:])
	port := binary.BigEndian.Uint16(v[2:]) ^ magicCookie>>16
	var addr netip.Addr
	switch {
	case v[1] == familyIPv4 && len(v) == 8:
		var a [4]byte
		for i := range a {
			a[i] = v[4+i] ^ mask[i]
		}
		addr = netip.AddrFrom4(a)
	case v[1] == familyIPv6 && len(v) == 20:
		var a [16]byte
		for i := range a {
			a[i] = v[4+i] ^ mask[i]
		}
		addr = netip.AddrFrom16(a)
	default:
		return false
	}
	if !m.peer.IsValid() {
		m.peer = netip.AddrPortFrom(addr, port)
	}
	return true
}

// response builds an answer of class to the request id; with a key it is signed.
func response(id [stun.TransactionIDSize]byte, method stun.Method, class stun.MessageClass, key []byte, attrs ...stun.Setter) ([]byte, error) {
	setters := append([]stun.Setter{stun.NewTransactionIDSetter(id), stun.NewType(method, class)}, attrs...)
	if key != nil {
		setters = append(setters, stun.MessageIntegrity(key))
	}
	m, err := stun.Build(setters...)
	if err != nil {
		return nil, err
	}
	return m.Raw, nil
}
