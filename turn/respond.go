package turn

import (
	"net/netip"
	"time"

	"github.com/pion/stun/v3"
)

// isResponse reports whether b is a STUN success or error response.
func isResponse(b []byte) bool {
	return len(b) >= headerSize && b[0]&0xC1 == 0x01 // class bit C1 (RFC 8489 §5)
}

// respond sends a response of the server to the current request: it learns
// expiry times from successes, mends errors, and pays for what was said to
// nobody in particular.
func (g *guard) respond(b []byte, dst netip.AddrPort) {
	m := &stun.Message{Raw: append([]byte(nil), b...)}
	if err := m.Decode(); err != nil {
		g.count.add(failMalformed)
		return
	}
	switch {
	case m.Type.Class == stun.ClassErrorResponse:
		if mended := g.mend(m); mended != nil {
			b = mended
		}
		if !g.pay(dst) {
			return
		}
	case m.Type.Method == stun.MethodBinding:
		if !g.pay(dst) {
			return
		}
	default:
		g.learn(m, dst)
	}
	g.send(b, dst, g.controlFor(dst))
}

func (g *guard) pay(dst netip.AddrPort) bool {
	if g.limit.take(dst.Addr(), g.cur.at) {
		return true
	}
	g.count.add(failRate)
	return false
}

func (g *guard) controlFor(dst netip.AddrPort) []byte {
	if c := g.client(dst); c != nil {
		return c.control
	}
	return g.socket.control(g.cur.local)
}

// learn remembers when the allocation at dst ends, from a success response. The
// server's timer started after the request was delivered, so that moment plus
// the lifetime is the earliest possible expiry.
func (g *guard) learn(m *stun.Message, dst netip.AddrPort) {
	c := g.client(dst)
	if c == nil {
		return // a Refresh has just ended it
	}
	v, err := m.Get(stun.AttrLifetime)
	if err != nil || len(v) != 4 {
		return
	}
	// A repeated Allocate is answered from a cache, with the lifetime it had
	// then: it does not extend anything.
	if m.Type.Method == stun.MethodAllocate && c.lapses.Load() != 0 {
		return
	}
	sec := uint32(v[0])<<24 | uint32(v[1])<<16 | uint32(v[2])<<8 | uint32(v[3])
	c.lapses.Store(g.cur.at.Add(time.Duration(sec)*time.Second - lapseMargin).UnixNano())
}

// mend replaces error responses that say the wrong thing: 400 where the
// credentials are wrong (RFC 8489 §9.2.4: 401), no code or 401 where the peer
// is forbidden (RFC 8656 §9.2, §12.2: 403). Nil: good as it is.
func (g *guard) mend(m *stun.Message) []byte {
	if m.TransactionID != g.cur.id {
		return nil
	}
	var code stun.ErrorCodeAttribute
	bare := code.GetFrom(m) != nil
	var attrs []stun.Setter
	key := g.cur.key
	switch {
	case g.cur.denied && code.Code == stun.CodeBadRequest:
		code = stun.ErrorCodeAttribute{Code: stun.CodeUnauthorized}
		attrs = append(attrs, stun.NewRealm(g.realm), stun.NewNonce(string(g.cur.nonce)))
		key = nil
	case m.Type.Method == stun.MethodCreatePermission && bare,
		m.Type.Method == stun.MethodChannelBind && code.Code == stun.CodeUnauthorized && !m.Contains(stun.AttrNonce):
		code = stun.ErrorCodeAttribute{Code: stun.CodeForbidden}
	default:
		return nil
	}
	b, err := response(m.TransactionID, m.Type.Method, stun.ClassErrorResponse, key,
		append([]stun.Setter{&stun.ErrorCodeAttribute{Code: code.Code, Reason: reason(code.Code)}}, attrs...)...)
	if err != nil {
		return nil
	}
	return b
}

// refuse answers the current request, which the server does not see.
func (g *guard) refuse(raw []byte, code stun.ErrorCode) {
	if !g.pay(g.cur.src) {
		return
	}
	b, err := response(g.cur.id, g.cur.method, stun.ClassErrorResponse, g.signer(raw),
		&stun.ErrorCodeAttribute{Code: code, Reason: reason(code)})
	if err != nil {
		g.count.add(failMalformed)
		return
	}
	g.send(b, g.cur.src, g.controlFor(g.cur.src))
}

// signer gives the key to sign a refusal with, where the request was signed with it.
func (g *guard) signer(raw []byte) []byte {
	if !g.cur.integrity {
		return nil
	}
	key := g.keyOf(string(g.cur.username))
	m := &stun.Message{Raw: append([]byte(nil), raw...)}
	if m.Decode() != nil || stun.MessageIntegrity(key).Check(m) != nil {
		return nil
	}
	return key
}

// reason is the phrase of RFC 8489 §14.8 and RFC 8656 §19.
func reason(code stun.ErrorCode) []byte {
	switch code {
	case stun.CodeBadRequest:
		return []byte("Bad Request")
	case stun.CodeUnauthorized:
		return []byte("Unauthorized")
	case stun.CodeForbidden:
		return []byte("Forbidden")
	case stun.CodeAllocMismatch:
		return []byte("Allocation Mismatch")
	case stun.CodeAddrFamilyNotSupported:
		return []byte("Address Family not Supported")
	case stun.CodeWrongCredentials:
		return []byte("Wrong Credentials")
	case stun.CodeUnsupportedTransProto:
		return []byte("Unsupported Transport Protocol")
	}
	return nil
}
