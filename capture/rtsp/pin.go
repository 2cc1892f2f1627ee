package rtsp

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"strings"

	"edged/capture"
)

// pinned trusts one certificate and no authority: cameras sign their own. The
// fingerprint is the SHA-256 of the certificate in DER, in hexadecimal, with or
// without colons; empty: nil, the system's authorities.
func pinned(fingerprint string) (*tls.Config, error) {
	if fingerprint == "" {
		return nil, nil
	}
	want, err := hex.DecodeString(strings.ReplaceAll(fingerprint, ":", ""))
	if err != nil || len(want) != sha256.Size {
		return nil, errors.New("tls_fingerprint: not the SHA-256 of a certificate, 64 hexadecimal digits")
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // what follows takes its place
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			if len(raw) == 0 {
				return capture.Errorf(capture.CodeRefused, "the camera shows no certificate")
			}
			if got := sha256.Sum256(raw[0]); string(got[:]) != string(want) {
				return capture.Errorf(capture.CodeRefused, "the camera shows another certificate than the configured one: its SHA-256 is %x", got)
			}
			return nil
		},
	}, nil
}
