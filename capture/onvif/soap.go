package onvif

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The namespaces of the services.
const (
	deviceNS = "http://www.onvif.org/ver10/device/wsdl"
	mediaNS  = "http://www.onvif.org/ver10/media/wsdl"
	schemaNS = "http://www.onvif.org/ver10/schema"
)

const (
	getTime         = `<GetSystemDateAndTime xmlns="` + deviceNS + `"/>`
	getCapabilities = `<GetCapabilities xmlns="` + deviceNS + `"><Category>Media</Category></GetCapabilities>`
	getProfiles     = `<GetProfiles xmlns="` + mediaNS + `"/>`
)

func getStreamURI(profile string) string {
	return `<GetStreamUri xmlns="` + mediaNS + `"><StreamSetup><Stream xmlns="` + schemaNS + `">RTP-Unicast</Stream>` +
		`<Transport xmlns="` + schemaNS + `"><Protocol>RTSP</Protocol></Transport></StreamSetup>` +
		`<ProfileToken>` + escaped(profile) + `</ProfileToken></GetStreamUri>`
}

func setSynchronizationPoint(profile string) string {
	return `<SetSynchronizationPoint xmlns="` + mediaNS + `"><ProfileToken>` + escaped(profile) + `</ProfileToken></SetSynchronizationPoint>`
}

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder does not fail
	return b.String()
}

// reply is what any of the answers may hold. Names are taken for what they are
// in whatever namespace: cameras differ.
type reply struct {
	XMLName xml.Name `xml:"Envelope"`
	Fault   *struct {
		Reason string `xml:"Reason>Text"`
		Old    string `xml:"faultstring"` // SOAP 1.1
	} `xml:"Body>Fault"`
	UTC      *date  `xml:"Body>GetSystemDateAndTimeResponse>SystemDateAndTime>UTCDateTime"`
	Media    string `xml:"Body>GetCapabilitiesResponse>Capabilities>Media>XAddr"`
	Profiles []struct {
		Token string `xml:"token,attr"`
	} `xml:"Body>GetProfilesResponse>Profiles"`
	URI          string    `xml:"Body>GetStreamUriResponse>MediaUri>Uri"`
	Synchronized *struct{} `xml:"Body>SetSynchronizationPointResponse"`
}

type date struct {
	Year   int `xml:"Date>Year"`
	Month  int `xml:"Date>Month"`
	Day    int `xml:"Date>Day"`
	Hour   int `xml:"Time>Hour"`
	Minute int `xml:"Time>Minute"`
	Second int `xml:"Time>Second"`
}

func (d date) time() time.Time {
	return time.Date(d.Year, time.Month(d.Month), d.Day, d.Hour, d.Minute, d.Second, 0, time.UTC)
}

// parse reads an answer.
func parse(b []byte) (*reply, error) {
	r := &reply{}
	if err := xml.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("no SOAP: %w", err)
	}
	if r.Fault != nil {
		return nil, fmt.Errorf("%w: %.200q", ErrRefused, strings.TrimSpace(r.Fault.Reason+r.Fault.Old))
	}
	return r, nil
}

// ask sends a request with the credentials, if there are any.
func (c *client) ask(ctx context.Context, at, request string) (*reply, error) {
	header := ""
	if c.user != "" {
		nonce := make([]byte, 16)
		_, _ = rand.Read(nonce) // never fails
		header = security(c.user, c.password, nonce, time.Now().Add(c.ahead))
	}
	return c.post(ctx, at, header, request)
}

// askOpenly sends one without.
func (c *client) askOpenly(ctx context.Context, at, request string) (*reply, error) {
	return c.post(ctx, at, "", request)
}

func (c *client) post(ctx context.Context, at, header, request string) (*reply, error) {
	body := `<?xml version="1.0" encoding="UTF-8"?>` +
		`<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope">` + header + `<s:Body>` + request + `</s:Body></s:Envelope>`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/soap+xml; charset=utf-8")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxReply:
		return nil, fmt.Errorf("an answer of more than %d bytes", maxReply)
	case resp.StatusCode == http.StatusUnauthorized:
		return nil, fmt.Errorf("%w: wrong or missing user name or password", ErrRefused)
	case resp.StatusCode != http.StatusOK && !bytes.Contains(b, []byte("Fault")): // which comes with 400 or 500
		return nil, fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	return parse(b)
}

// withoutURL leaves the address out: the camera's is said already.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// security is the header of WS-Security: UsernameToken Profile 1.0, section
// 3.1, Password_Digest = Base64(SHA-1(nonce + created + password)).
func security(user, password string, nonce []byte, now time.Time) string {
	const (
		oasis = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-"
		ext   = oasis + "wssecurity-secext-1.0.xsd"
		util  = oasis + "wssecurity-utility-1.0.xsd"
	)
	created := now.UTC().Format("2006-01-02T15:04:05.000Z")
	sum := sha1.New()
	sum.Write(nonce)
	sum.Write([]byte(created + password))
	return `<s:Header><Security s:mustUnderstand="1" xmlns="` + ext + `"><UsernameToken>` +
		`<Username>` + escaped(user) + `</Username>` +
		`<Password Type="` + oasis + `username-token-profile-1.0#PasswordDigest">` + base64.StdEncoding.EncodeToString(sum.Sum(nil)) + `</Password>` +
		`<Nonce EncodingType="` + oasis + `soap-message-security-1.0#Base64Binary">` + base64.StdEncoding.EncodeToString(nonce) + `</Nonce>` +
		`<Created xmlns="` + util + `">` + created + `</Created></UsernameToken></Security></s:Header>`
}
