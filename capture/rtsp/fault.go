package rtsp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/bluenviron/gortsplib/v5/pkg/base"
	"github.com/bluenviron/gortsplib/v5/pkg/liberrors"

	"edged/capture"
)

// fault gives an error of the network or the library its code and its words.
// Errors that have a code keep it.
func fault(err error) *capture.Error {
	var own *capture.Error
	if errors.As(err, &own) {
		return own
	}
	code, words := reason(err)
	if words != "" {
		return &capture.Error{Code: code, Err: errors.New(words), Soon: absent(err)}
	}
	return &capture.Error{Code: code, Err: err, Soon: absent(err)}
}

// absent tells whether there was no connection at all, because nobody listens
// or answers at the address: not even a name server was bothered in vain.
func absent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" && !errors.As(err, new(*net.DNSError))
}

// reason classifies. An empty text means that err's own will do.
func reason(err error) (capture.Code, string) {
	var status liberrors.ErrClientBadStatusCode
	if errors.As(err, &status) {
		return answer(status)
	}
	if code, words := networkReason(err); code != "" {
		return code, words
	}
	return libraryReason(err)
}

// answer maps an RTSP status (RFC 2326, 7.1.1).
func answer(s liberrors.ErrClientBadStatusCode) (capture.Code, string) {
	said := fmt.Sprintf("the camera answered %d %.60q", int(s.Code), s.Message)
	switch s.Code {
	case base.StatusUnauthorized, base.StatusProxyAuthRequired,
		base.StatusConnectionAuthorizationRequired, base.StatusConnectionCredentialsNotAccepted:
		return capture.CodeUnauthorized, fmt.Sprintf("wrong or missing user name or password (%d)", int(s.Code))
	case base.StatusNotFound, base.StatusGone:
		return capture.CodeNotFound, fmt.Sprintf("the camera has no such path (%d)", int(s.Code))
	case base.StatusNotEnoughBandwidth, base.StatusServiceUnavailable:
		return capture.CodeBusy, said
	}
	return capture.CodeRefused, said
}

func networkReason(err error) (capture.Code, string) {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var netErr net.Error
	switch {
	case errors.As(err, &dns):
		return capture.CodeUnreachable, fmt.Sprintf("host name %q not found", dns.Name)
	case errors.As(err, &cert):
		return capture.CodeRefused, fmt.Sprintf("the camera's certificate is not trusted: %v", cert.Err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return capture.CodeRefused, "connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return capture.CodeUnreachable, "no route to the camera"
	case errors.Is(err, errTalk):
		return capture.CodeProtocol, errTalk.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return capture.CodeUnplugged, "the camera closed the connection"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return capture.CodeUnreachable, "no answer in time"
	}
	return "", ""
}

func libraryReason(err error) (capture.Code, string) {
	var (
		request liberrors.ErrClientRequestTimedOut
		udp     liberrors.ErrClientUDPTimeout
		tcp     liberrors.ErrClientTCPTimeout
		setup   liberrors.ErrClientAuthSetup
		method  liberrors.ErrClientUnhandledMethod
	)
	switch {
	case errors.As(err, &request):
		return capture.CodeUnreachable, "the camera does not answer a request"
	case errors.As(err, &udp), errors.As(err, &tcp):
		return capture.CodeStalled, "nothing comes any more"
	case errors.As(err, &setup):
		return capture.CodeUnauthorized, "the camera wants a kind of authentication that is neither Basic nor Digest"
	case errors.As(err, &method) && method.Method == base.Teardown:
		return capture.CodeUnplugged, "the camera ended the session"
	}
	return capture.CodeProtocol, fmt.Sprintf("the camera's answer makes no sense: %.200v", err)
}
