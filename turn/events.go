package turn

import (
	"net"
	"net/netip"

	pion "github.com/pion/turn/v4"

	"github.com/pion/stun/v3"
)

// The callbacks of the server. Those for permissions and channels run under its
// locks: they take guard.mu for a few instructions and call nothing.

func (g *guard) events() pion.EventHandler {
	return pion.EventHandler{
		OnAuth: func(_, _ net.Addr, _, _, _, _ string, ok bool) {
			if !ok {
				g.deny()
			}
		},
		OnAllocationCreated: func(src, _ net.Addr, _, username, _ string, _ net.Addr, _ int) {
			g.created(src, username)
		},
		OnAllocationDeleted: func(src, _ net.Addr, _, _, _ string) { g.deleted(src) },
		OnPermissionCreated: func(src, _ net.Addr, _, _, _ string, _ net.Addr, peer net.IP) {
			g.permission(src, peer, true)
		},
		OnPermissionDeleted: func(src, _ net.Addr, _, _, _ string, _ net.Addr, peer net.IP) {
			g.permission(src, peer, false)
		},
		OnChannelCreated: func(src, _ net.Addr, _, _, _ string, _, _ net.Addr, _ uint16) { g.channel(src, 1) },
		OnChannelDeleted: func(src, _ net.Addr, _, _, _ string, _, _ net.Addr, _ uint16) { g.channel(src, -1) },
	}
}

func (g *guard) deny() {
	g.cur.denied = true
	g.count.auth.Add(1)
}

// authenticate gives the key of a username, if it may be used now. The server
// compares the request's HMAC with it in constant time.
func (g *guard) authenticate(username, realm string, _ net.Addr) ([]byte, bool) {
	_, expires, err := parseUsername(username)
	if err == nil && g.now().After(expires) && !g.goesOn(username) {
		err = errExpired
	}
	if err != nil || realm != g.realm {
		g.deny()
		return nil, false
	}
	g.cur.key = g.keyOf(username)
	return g.cur.key, true
}

// goesOn reports whether the current request is about a live allocation of
// username: an allocation may outlive the credential that opened it, or a
// viewer's picture would freeze when the credential expires.
func (g *guard) goesOn(username string) bool {
	c := g.client(g.cur.src)
	return c != nil && c.username == username && g.cur.method != stun.MethodAllocate
}

// quota reports whether username may have one more allocation.
func (g *guard) quota(total, perUser int) pion.QuotaHandler {
	return func(username, _ string, _ net.Addr) bool {
		subject, _, err := parseUsername(username)
		g.mu.RLock()
		ok := err == nil && len(g.clients) < total && g.users[subject] < perUser
		g.mu.RUnlock()
		if !ok {
			g.count.add(failQuota)
		}
		return ok
	}
}

// permit is asked about a peer before a permission or a channel is installed.
func (g *guard) permit(src net.Addr, ip net.IP) bool {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok || !g.policy.allowsIP(addr) ||
		g.cur.method == stun.MethodChannelBind && !g.policy.allows(g.cur.peer) {
		g.count.denied.Add(1)
		return false
	}
	u, ok := src.(*net.UDPAddr)
	if !ok {
		return false
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	c := g.clients[unmapped(u.AddrPort())]
	if c == nil {
		return false
	}
	_, again := c.permissions[addr]
	if !again && len(c.permissions) >= maxPermissions ||
		g.cur.method == stun.MethodChannelBind && c.channels >= maxChannels {
		g.count.add(failLimit)
		return false
	}
	return true
}

func (g *guard) created(src net.Addr, username string) {
	u, ok := src.(*net.UDPAddr)
	if !ok {
		return
	}
	subject, _, err := parseUsername(username)
	if err != nil {
		return // authenticate has let it pass, so it parses
	}
	c := &client{
		addr: u, username: username, subject: subject,
		control:     g.socket.control(g.cur.local),
		permissions: map[netip.Addr]struct{}{},
	}
	g.relays.Add(1)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.clients[unmapped(u.AddrPort())] = c
	g.users[subject]++
}

func (g *guard) deleted(src net.Addr) {
	u, ok := src.(*net.UDPAddr)
	if !ok {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	key := unmapped(u.AddrPort())
	c := g.clients[key]
	if c == nil {
		return
	}
	delete(g.clients, key)
	if g.users[c.subject]--; g.users[c.subject] <= 0 {
		delete(g.users, c.subject)
	}
	g.relays.Done()
}

func (g *guard) permission(src net.Addr, peer net.IP, created bool) {
	u, ok := src.(*net.UDPAddr)
	addr, valid := netip.AddrFromSlice(peer)
	if !ok || !valid {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.clients[unmapped(u.AddrPort())]
	switch {
	case c == nil:
	case created:
		c.permissions[addr] = struct{}{}
	default:
		delete(c.permissions, addr)
	}
}

func (g *guard) channel(src net.Addr, n int) {
	u, ok := src.(*net.UDPAddr)
	if !ok {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.clients[unmapped(u.AddrPort())]; c != nil {
		c.channels += n
	}
}
