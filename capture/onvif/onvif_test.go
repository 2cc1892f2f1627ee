package onvif

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	user     = "admin<1>"
	password = "s3cr3t-pass"
	mainURI  = "rtsp://10.9.8.7:554/main?channel=1"
	subURI   = "rtsp://10.9.8.7:554/sub?channel=1"
)

// device is a camera as the specifications have it: its clock is wrong by an
// hour, and it takes no digest that is older than ten seconds by that.
type device struct {
	answers map[string]func(http.ResponseWriter) // by operation, in the place of its own

	mu    sync.Mutex
	asked []string // operations, with what they name
	media string   // what it gives as the media service's address
}

// request is what a client sends.
type request struct {
	Security *struct {
		Username, Password, Nonce, Created string
	} `xml:"Header>Security>UsernameToken"`
	Body struct {
		Operation struct {
			XMLName      xml.Name
			ProfileToken string
		} `xml:",any"`
	}
}

const behind = -time.Hour

func (d *device) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	var q request
	if err := xml.Unmarshal(b, &q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	operation := q.Body.Operation.XMLName.Local
	d.mu.Lock()
	d.asked = append(d.asked, strings.TrimSpace(operation+" "+q.Body.Operation.ProfileToken))
	media := d.media
	d.mu.Unlock()
	if answer := d.answers[operation]; answer != nil {
		answer(w)
		return
	}
	if operation == "GetSystemDateAndTime" {
		if q.Security != nil {
			http.Error(w, "a password for nothing", http.StatusBadRequest)
			return
		}
		now := time.Now().Add(behind).UTC()
		says(w, fmt.Sprintf(`<t:GetSystemDateAndTimeResponse><t:SystemDateAndTime><x:UTCDateTime>`+
			`<x:Time><x:Hour>%d</x:Hour><x:Minute>%d</x:Minute><x:Second>%d</x:Second></x:Time>`+
			`<x:Date><x:Year>%d</x:Year><x:Month>%d</x:Month><x:Day>%d</x:Day></x:Date></x:UTCDateTime></t:SystemDateAndTime></t:GetSystemDateAndTimeResponse>`,
			now.Hour(), now.Minute(), now.Second(), now.Year(), now.Month(), now.Day()))
		return
	}
	if !genuine(q) {
		refuses(w, "Sender not authorized")
		return
	}
	switch operation {
	case "GetCapabilities":
		says(w, `<t:GetCapabilitiesResponse><t:Capabilities><x:Media><x:XAddr>`+media+`</x:XAddr></x:Media></t:Capabilities></t:GetCapabilitiesResponse>`)
	case "GetProfiles":
		says(w, `<m:GetProfilesResponse><m:Profiles token="low"/><m:Profiles token="other"/><m:Profiles token="a&amp;b"/></m:GetProfilesResponse>`)
	case "GetStreamUri":
		uri := map[string]string{"low": subURI, "a&b": mainURI}[q.Body.Operation.ProfileToken]
		says(w, `<m:GetStreamUriResponse><m:MediaUri><x:Uri>`+escaped(uri)+`</x:Uri></m:MediaUri></m:GetStreamUriResponse>`)
	case "SetSynchronizationPoint":
		says(w, `<m:SetSynchronizationPointResponse/>`)
	default:
		refuses(w, "unknown action")
	}
}

// genuine checks the digest and its time.
func genuine(q request) bool {
	s := q.Security
	if s == nil || s.Username != user {
		return false
	}
	created, err := time.Parse(time.RFC3339Nano, s.Created)
	if err != nil || time.Since(created.Add(-behind)).Abs() > 10*time.Second {
		return false
	}
	nonce, err := base64.StdEncoding.DecodeString(s.Nonce)
	sum := sha1.Sum([]byte(string(nonce) + s.Created + password))
	return err == nil && len(nonce) > 0 && s.Password == base64.StdEncoding.EncodeToString(sum[:])
}

func says(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/soap+xml")
	_, _ = io.WriteString(w, `<?xml version="1.0"?><e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope" xmlns:t="`+deviceNS+`" xmlns:m="`+mediaNS+`" xmlns:x="`+schemaNS+`"><e:Body>`+body+`</e:Body></e:Envelope>`)
}

func refuses(w http.ResponseWriter, why string) {
	w.WriteHeader(http.StatusBadRequest)
	says(w, `<e:Fault><e:Code><e:Value>e:Sender</e:Value></e:Code><e:Reason><e:Text xml:lang="en">`+why+`</e:Text></e:Reason></e:Fault>`)
}

// serve runs the device until the test ends.
func (d *device) serve(t *testing.T, secure bool) Config {
	t.Helper()
	server := httptest.NewUnstartedServer(d)
	cfg := Config{User: user, Password: password}
	if secure {
		server.StartTLS()
		cfg.TLS = server.Client().Transport.(*http.Transport).TLSClientConfig
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(port)
	cfg.Host, cfg.Ports = host, []int{n}
	d.media = "http://192.0.2.99/onvif/media" // by its own address, behind a translation
	return cfg
}

func urls(t *testing.T, texts ...string) (all []*url.URL) {
	t.Helper()
	for _, s := range texts {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	return all
}

func TestKeyframe(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", secure), func(t *testing.T) {
			d := &device{}
			cfg := d.serve(t, secure)
			s, err := Find(t.Context(), cfg, urls(t, "rtsp://u:p@camera/main?channel=1", "rtsp://camera/sub?channel=1"))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for _, stream := range []int{0, 1, 2, -1} { // there are two
				if err := s.Keyframe(t.Context(), stream); err != nil {
					t.Error(err)
				}
			}
			want := []string{"GetSystemDateAndTime", "GetCapabilities", "GetProfiles", "GetStreamUri low", "GetStreamUri other", "GetStreamUri a&b",
				"SetSynchronizationPoint a&b", "SetSynchronizationPoint low"}
			if !slices.Equal(d.asked, want) {
				t.Errorf("asked for %q, want %q", d.asked, want)
			}
		})
	}
}

// A stream whose address no profile has gets the profile in its place.
func TestUnknownStreams(t *testing.T) {
	d := &device{}
	s, err := Find(t.Context(), d.serve(t, false), urls(t, "rtsp://camera/x", "rtsp://camera/y"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !slices.Equal(s.profiles, []string{"low", "other"}) {
		t.Errorf("%q", s.profiles)
	}
}

func TestWrongDevices(t *testing.T) {
	answer := func(operation string, f func(http.ResponseWriter)) map[string]func(http.ResponseWriter) {
		return map[string]func(http.ResponseWriter){operation: f}
	}
	says := func(body string) func(http.ResponseWriter) { return func(w http.ResponseWriter) { says(w, body) } }
	for name, c := range map[string]struct {
		answers map[string]func(http.ResponseWriter)
		wrong   bool // password
		refused bool
		mention string
	}{
		"a wrong password": {nil, true, true, "Sender not authorized"},
		"HTTP's own authentication": {answer("GetCapabilities", func(w http.ResponseWriter) { http.Error(w, "", http.StatusUnauthorized) }),
			false, true, "user name or password"},
		"no ONVIF": {answer("GetSystemDateAndTime", func(w http.ResponseWriter) { http.Error(w, "", http.StatusNotFound) }),
			false, false, "HTTP status 404"},
		"a web page": {answer("GetSystemDateAndTime", func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html><p>Fault") }),
			false, false, "no SOAP"},
		"another protocol": {answer("GetSystemDateAndTime", says("<x:Hello/>")), false, false, "no ONVIF device"},
		"a redirect": {answer("GetSystemDateAndTime", func(w http.ResponseWriter) {
			w.Header().Set("Location", "http://192.0.2.1/")
			w.WriteHeader(http.StatusFound)
		}), false, false, "HTTP status 302"},
		"endless": {answer("GetProfiles", func(w http.ResponseWriter) {
			for i := 0; i < 2*maxReply; i += 8 {
				_, _ = io.WriteString(w, "<a></a> ")
			}
		}), false, false, "more than"},
		"deep": {answer("GetProfiles", func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, "<Envelope>"+strings.Repeat("<a>", 60000))
		}), false, false, "no SOAP"},
		"an entity": {answer("GetProfiles", func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, `<!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/passwd">]><Envelope><Body><Fault><faultstring>&x;</faultstring></Fault></Body></Envelope>`)
		}), false, false, "no SOAP"},
		"no profiles": {answer("GetProfiles", says("<m:GetProfilesResponse/>")), false, true, "no profiles"},
		"no media":    {answer("GetCapabilities", says("<t:GetCapabilitiesResponse/>")), false, false, "no media service"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := (&device{answers: c.answers}).serve(t, false)
			if c.wrong {
				cfg.Password = "another"
			}
			_, err := Find(t.Context(), cfg, urls(t, mainURI))
			if err == nil || errors.Is(err, ErrRefused) != c.refused || !strings.Contains(err.Error(), c.mention) {
				t.Errorf("%v", err)
			}
			if err != nil && (strings.Contains(err.Error(), password) || strings.Contains(err.Error(), "root:")) {
				t.Errorf("%v tells too much", err)
			}
		})
	}
}

func TestRefusesKeyframes(t *testing.T) {
	d := &device{answers: map[string]func(http.ResponseWriter){
		"SetSynchronizationPoint": func(w http.ResponseWriter) { refuses(w, "ActionNotSupported") },
	}}
	s, err := Find(t.Context(), d.serve(t, false), urls(t, mainURI))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Keyframe(t.Context(), 0); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "ActionNotSupported") {
		t.Error(err)
	}
}

// Nobody listens; somebody listens and is silent while the caller leaves.
func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := Config{Host: "127.0.0.1", Ports: []int{l.Addr().(*net.TCPAddr).Port}}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, _ = c.Read(make([]byte, 1))
			cancel()
			_ = c.Close()
		}
	}()
	if _, err := Find(ctx, cfg, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	_ = l.Close()
	if _, err := Find(t.Context(), cfg, nil); err == nil || errors.Is(err, ErrRefused) {
		t.Error(err)
	}
}

// The default ports are asked one after the other, over TLS another.
func TestPorts(t *testing.T) {
	for want, cfg := range map[string]Config{"80": {}, "443": {TLS: &tls.Config{}}} {
		var asked []string
		c := newClient(cfg)
		c.http.Transport.(*http.Transport).DialContext = func(_ context.Context, _, addr string) (net.Conn, error) {
			asked = append(asked, addr)
			return nil, errors.New("no")
		}
		_, err := c.device(t.Context(), Config{Host: "2001:db8::1", TLS: cfg.TLS})
		if err == nil || asked[0] != "[2001:db8::1]:"+want {
			t.Errorf("%v, %v", asked, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`<Envelope><Body><Fault><Reason><Text>no</Text></Reason></Fault></Body></Envelope>`))
	f.Add([]byte(`<e:Envelope xmlns:e="x"><e:Body><GetProfilesResponse><Profiles token="a"/></GetProfilesResponse></e:Body></e:Envelope>`))
	f.Add([]byte(`<Envelope><Body><GetSystemDateAndTimeResponse><SystemDateAndTime><UTCDateTime><Date><Year>-9</Year></Date></UTCDateTime></SystemDateAndTime></GetSystemDateAndTimeResponse></Body></Envelope>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err == nil && r.Fault != nil {
			t.Error("a fault is no error")
		}
		if err == nil && r.UTC != nil {
			_ = time.Until(r.UTC.time())
		}
	})
}
