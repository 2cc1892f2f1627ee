package uplink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// limits are the times of a connection.
type limits struct {
	keepAlive   time.Duration // silence before a PINGREQ
	pingTimeout time.Duration
	connect     time.Duration // name, TCP, TLS and CONNACK together
	write       time.Duration // of one write to the socket
	ack         time.Duration // from a SUBSCRIBE or PUBLISH to its answer
	presence    time.Duration // between repeats of the presence
	goodbye     time.Duration // for all that a clean stop still sends
}

func defaultLimits() limits {
	return limits{
		keepAlive: 120 * time.Second, pingTimeout: 15 * time.Second,
		connect: 20 * time.Second, write: 15 * time.Second, ack: 60 * time.Second,
		presence: 15 * time.Minute, goodbye: 2 * time.Second,
	}
}

// Errors of a connection.
var (
	errCut   = errors.New("connection cut")
	errAck   = errors.New("no acknowledgement")
	errGrant = errors.New("the broker does not grant the subscription")
)

// inboxSize bounds the messages that wait to be looked at.
const inboxSize = 32

// arrival is a message from the console, as far as this version looks at it.
type arrival struct {
	topic string
	bytes int
}

// session is one connection to a broker, from CONNECT to its end; the next
// connection is a new session with a new client.
type session struct {
	client mqtt.Client
	limits limits
	inbox  chan arrival // from the library's reader; what does not fit is only counted

	guard   atomic.Pointer[guard] // nil until the transport is open
	cutting atomic.Bool           // cut was called, perhaps before there was a transport
	missed  atomic.Uint64         // messages that did not fit the inbox

	dead  chan struct{} // closed when the connection has ended
	die   sync.Once
	err   error // why; valid once dead
	calls sync.WaitGroup
}

// greeting is what a CONNECT says.
type greeting struct {
	id, username, password string
	willTopic              string
	will                   []byte
}

// newSession makes a session whose transport open opens.
func newSession(v server, g greeting, l limits, open func() (net.Conn, error)) *session {
	s := &session{limits: l, inbox: make(chan arrival, inboxSize), dead: make(chan struct{})}
	o := mqtt.NewClientOptions()
	o.AddBroker(v.String())
	o.SetClientID(g.id)
	o.SetUsername(g.username)
	o.SetPassword(g.password)
	o.SetProtocolVersion(4)
	o.SetCleanSession(true)
	o.SetAutoReconnect(false)
	o.SetConnectRetry(false)
	o.SetKeepAlive(l.keepAlive)
	o.SetPingTimeout(l.pingTimeout)
	o.SetConnectTimeout(l.connect)
	o.SetWriteTimeout(l.write)
	o.SetBinaryWill(g.willTopic, g.will, 1, true)
	o.SetDefaultPublishHandler(s.arrived)
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { s.ended(err) })
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		conn, err := open()
		if err != nil {
			return nil, err
		}
		g := newGuard(conn, l.write)
		s.guard.Store(g)
		if s.cutting.Load() {
			g.cut()
			return nil, errCut
		}
		return g, nil
	})
	s.client = mqtt.NewClient(o)
	return s
}

// arrived runs on the library's reader, so it must not wait.
func (s *session) arrived(_ mqtt.Client, m mqtt.Message) {
	select {
	case s.inbox <- arrival{m.Topic(), len(m.Payload())}:
	default:
		s.missed.Add(1)
	}
}

func (s *session) ended(err error) {
	if err == nil {
		err = errCut
	}
	s.die.Do(func() {
		s.err = err
		close(s.dead)
	})
}

// connect opens the transport and waits for CONNACK. The open function given
// to newSession must heed the same ctx.
func (s *session) connect(ctx context.Context) error {
	token := s.client.Connect()
	select {
	case <-token.Done():
	case <-ctx.Done():
		s.cut()
		<-token.Done() // the transport is gone, so this is soon
		s.ended(errCut)
		return fmt.Errorf("no answer in %v: %w", s.limits.connect, ctx.Err())
	}
	if err := token.Error(); err != nil {
		s.ended(err)
		return tidy(err)
	}
	return nil
}

// tidy takes the library's "network Error : " off an error.
func tidy(err error) error {
	var joined interface{ Unwrap() []error }
	if errors.Is(err, packets.ErrorNetworkError) && errors.As(err, &joined) {
		if all := joined.Unwrap(); len(all) == 2 && all[1] != nil {
			return all[1]
		}
	}
	return err
}

// spoke says whether a CONNECT may have reached the broker.
func (s *session) spoke() bool {
	g := s.guard.Load()
	return g != nil && g.wrote.Load()
}

// subscribe asks for one filter and checks what was granted: a refusal is no
// error to the library (MQTT 3.1.1 §3.9.3).
func (s *session) subscribe(ctx context.Context, filter string) error {
	var granted byte
	err := s.call(ctx, func() mqtt.Token { return s.client.Subscribe(filter, 1, nil) }, func(t mqtt.Token) {
		granted = 0x80
		if st, ok := t.(*mqtt.SubscribeToken); ok {
			granted = st.Result()[filter]
		}
	})
	switch {
	case err != nil:
		return fmt.Errorf("subscribe %s: %w", filter, err)
	case granted > 1:
		return fmt.Errorf("subscribe %s: %w", filter, errGrant)
	}
	return nil
}

// publish sends one message of QoS 1 and waits for its PUBACK.
func (s *session) publish(ctx context.Context, topic string, retain bool, payload []byte) error {
	err := s.call(ctx, func() mqtt.Token { return s.client.Publish(topic, 1, retain, payload) }, nil)
	if err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	return nil
}

// call runs a request of the library, which may wait for its writer, and
// waits for the answer; read then reads the token.
func (s *session) call(ctx context.Context, request func() mqtt.Token, read func(mqtt.Token)) error {
	answer := make(chan mqtt.Token, 1)
	s.calls.Go(func() {
		token := request()
		select {
		case <-token.Done():
			answer <- token
		case <-s.dead:
		}
	})
	timer := time.NewTimer(s.limits.ack)
	defer timer.Stop()
	select {
	case token := <-answer:
		if err := token.Error(); err != nil {
			return s.reason(err)
		}
		if read != nil {
			read(token)
		}
		return nil
	case <-s.dead:
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return fmt.Errorf("%w in %v", errAck, s.limits.ack)
	}
}

// reason prefers why the connection ended to the library's "connection lost",
// which tokens are told a moment earlier.
func (s *session) reason(err error) error {
	timer := time.NewTimer(200 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-s.dead:
		return s.err
	case <-timer.C:
		return err
	}
}

// cut ends the transport, so that the broker publishes the Will.
func (s *session) cut() {
	s.cutting.Store(true)
	if g := s.guard.Load(); g != nil {
		g.cut()
	}
}

// leave sends DISCONNECT, so that the broker forgets the Will, and ends.
func (s *session) leave() {
	s.client.Disconnect(200) // milliseconds
	s.ended(errCut)
	s.end()
}

// end cuts what is still there and waits, a moment at most, until the
// library's goroutines have ended.
func (s *session) end() {
	s.cut()
	ended := make(chan struct{})
	go func() {
		<-s.dead
		s.calls.Wait()
		close(ended)
	}()
	timer := time.NewTimer(500 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		s.ended(errCut)
	}
}
