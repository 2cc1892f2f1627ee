package forward

import "net/netip"

// Config is the `webrtc` section of the configuration, checked.
type Config struct {
	UDP        string       // listen address of the one media socket, e.g. ":8189"; port 0 means any
	TCP        string       // listen address of ICE-TCP (RFC 6544); empty means none; port 0 means the UDP port
	PublicIPs  []netip.Addr // addresses of a 1:1 NAT or port-forward, offered besides the box's own
	ICEServers []ICEServer  // offered to viewers (stun, turn)
	MaxViewers int          // viewers admitted at once, ≥ 1
	MaxCPU     int          // percent of the processor, the machine's or the control group's, in use, beyond which, where frames are late, no viewer is admitted; 0: no bound
	MinMemory  int64        // bytes that must be available to admit a viewer; 0: no bound
	MaxBitrate float64      // bits/s to all viewers, as booked by their layers; 0: no bound
}

// ICEServer is a STUN or TURN server for viewers (RTCIceServer of the WebRTC
// API, and Link rel="ice-server" of RFC 9725).
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}
