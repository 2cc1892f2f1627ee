package storage

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The files of an identity, each of mode 0600.
const (
	keyFile  = "identity.key" // PEM: PKCS #8 Ed25519 key, then its public key
	dtlsFile = "dtls.pem"     // PEM: certificate, then its PKCS #8 key
	turnFile = "turn.secret"  // hexadecimal, framed as every value
)

// Identity is what makes a box this box and no other. Its parts never change.
type Identity struct {
	Key         ed25519.PrivateKey // signs tokens and answers
	Certificate tls.Certificate    // of DTLS: ECDSA P-256, self-signed
	TURNSecret  []byte             // 32 bytes; TURN passwords are made from it
}

// OpenIdentity reads the identity in dir, making dir and the parts that are
// missing. It needs no lock: several processes may call it at once and all
// get the same identity. A part that is there but damaged is an error that
// names its file and wraps [ErrDamaged]; it is never replaced, for consoles
// know the box by it.
func OpenIdentity(dir string) (*Identity, error) {
	id := new(Identity)
	for _, p := range []struct {
		name  string
		build func() ([]byte, error)
		read  func([]byte) error
	}{
		{keyFile, makeKey, id.readKey},
		{dtlsFile, makeCertificate, id.readCertificate},
		{turnFile, makeTURNSecret, id.readTURNSecret},
	} {
		path := filepath.Join(dir, p.name)
		data, err := readOrMake(path, p.build)
		if err != nil {
			return nil, fmt.Errorf("identity: %s: %w", path, reason(err))
		}
		if err := p.read(data); err != nil {
			return nil, fmt.Errorf("identity: %s: %w: %w", path, ErrDamaged, err)
		}
	}
	return id, nil
}

// Box is the box's name in topics and tokens: lower-case base32 of the first
// 16 bytes of the SHA-256 of its public key, 26 characters.
func (id *Identity) Box() string {
	sum := sha256.Sum256(id.Public())
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

// Public is the key that others verify with.
func (id *Identity) Public() ed25519.PublicKey {
	return id.Key.Public().(ed25519.PublicKey)
}

// String names the box and hides the secrets.
func (id *Identity) String() string { return "box " + id.Box() }

// GoString hides the secrets from %#v.
func (id *Identity) GoString() string { return id.String() }

// LogValue hides the secrets from slog.
func (id *Identity) LogValue() slog.Value { return slog.StringValue(id.Box()) }

// MarshalJSON hides the secrets.
func (id *Identity) MarshalJSON() ([]byte, error) { return []byte(`"` + id.Box() + `"`), nil }

const maxIdentityFile = 64 << 10

// readOrMake returns a file, made first where it is missing. Where another
// process makes it at the same moment, the file is the one that came first.
func readOrMake(path string, build func() ([]byte, error)) ([]byte, error) {
	data, err := readBounded(path, maxIdentityFile)
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	if err := CheckDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	data, err = build()
	if err != nil {
		return nil, err
	}
	if err := place(path, data); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(path)
}

func makeKey() ([]byte, error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, err
	}
	pubDER, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	return append(block("PRIVATE KEY", der), block("PUBLIC KEY", pubDER)...), nil
}

// readKey checks the private key against the public one beside it: a seed is
// 32 bytes without redundancy, and one flipped bit would be another box.
func (id *Identity) readKey(data []byte) error {
	ders, err := blocks(data, "PRIVATE KEY", "PUBLIC KEY")
	if err != nil {
		return err
	}
	key, err := x509.ParsePKCS8PrivateKey(ders[0])
	if err != nil {
		return errors.New("private key cannot be parsed") // the parser's words may hold key bytes
	}
	pub, err := x509.ParsePKIXPublicKey(ders[1])
	if err != nil {
		return fmt.Errorf("public key: %w", err)
	}
	priv, ok := key.(ed25519.PrivateKey)
	if !ok {
		return fmt.Errorf("%T, not an Ed25519 key", key)
	}
	if !priv.Public().(ed25519.PublicKey).Equal(pub) {
		return errors.New("the private key does not belong to the public key")
	}
	id.Key = priv
	return nil
}

// The certificate's life does not depend on the clock, which may be wrong by
// decades when a box first starts.
var (
	certificateFrom  = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	certificateUntil = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
)

func makeCertificate() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: "edged"},
		NotBefore:    certificateFrom,
		NotAfter:     certificateUntil,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(block("CERTIFICATE", cert), block("PRIVATE KEY", der)...), nil
}

// readCertificate checks the self-signature too, so that a damaged
// certificate is not served with another fingerprint.
func (id *Identity) readCertificate(data []byte) error {
	ders, err := blocks(data, "CERTIFICATE", "PRIVATE KEY")
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(ders[0])
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if err := leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(ders[1])
	if err != nil {
		return errors.New("private key cannot be parsed")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(leaf.PublicKey) {
		return errors.New("the private key does not belong to the certificate")
	}
	id.Certificate = tls.Certificate{Certificate: [][]byte{ders[0]}, PrivateKey: key, Leaf: leaf}
	return nil
}

func makeTURNSecret() ([]byte, error) {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails
	return seal(turnFile, "", []byte(hex.EncodeToString(secret)+"\n")), nil
}

func (id *Identity) readTURNSecret(data []byte) error {
	payload, err := unseal(turnFile, "", data)
	if err != nil {
		return errors.New("its checksum does not fit")
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(payload)))
	if err != nil || len(secret) != 32 {
		return errors.New("not 32 bytes in hexadecimal")
	}
	id.TURNSecret = secret
	return nil
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// blocks reads exactly these PEM blocks, in this order, and nothing else.
func blocks(data []byte, kinds ...string) (ders [][]byte, err error) {
	for _, kind := range kinds {
		b, rest := pem.Decode(data)
		if b == nil || b.Type != kind {
			return nil, fmt.Errorf("no %s where one should be", strings.ToLower(kind))
		}
		ders, data = append(ders, b.Bytes), rest
	}
	return ders, nil
}
