package mqtt

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// dynamicSecurity writes the plugin's state: unlike an ACL file, which only
// filters what is delivered, the plugin refuses subscriptions.
func (b *Broker) dynamicSecurity(users []User) ([]string, error) {
	plugins, err := filepath.Glob("/usr/lib/*/mosquitto_dynamic_security.so")
	if err != nil || len(plugins) == 0 {
		return nil, errors.New("mosquitto_dynamic_security.so is not installed")
	}
	type acl struct {
		Type     string `json:"acltype"`
		Topic    string `json:"topic"`
		Priority int    `json:"priority"`
		Allow    bool   `json:"allow"`
	}
	var clients, roles []any
	for _, u := range users {
		const iterations = 101
		salt := []byte("twelve bytes")
		key, err := pbkdf2.Key(sha512.New, u.Password, salt, iterations, 64)
		if err != nil {
			return nil, err
		}
		acls := []acl{}
		for _, f := range u.Publish {
			acls = append(acls, acl{"publishClientSend", f, 0, true})
		}
		for _, f := range u.Subscribe {
			acls = append(acls, acl{"subscribePattern", f, 0, true})
		}
		roles = append(roles, map[string]any{"rolename": u.Name, "acls": acls})
		clients = append(clients, map[string]any{
			"username": u.Name, "password": base64.StdEncoding.EncodeToString(key),
			"salt": base64.StdEncoding.EncodeToString(salt), "iterations": iterations,
			"roles": []any{map[string]any{"rolename": u.Name}},
		})
		if u.Name == "console" {
			b.console = append(b.console, "-u", u.Name, "-P", u.Password)
		}
	}
	state, err := json.Marshal(map[string]any{
		"defaultACLAccess": map[string]bool{
			"publishClientSend": false, "publishClientReceive": true, "subscribe": false, "unsubscribe": true,
		},
		"clients": clients, "groups": []any{}, "roles": roles,
	})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, "dynamic-security.json")
	return []string{"plugin " + plugins[0], "plugin_opt_config_file " + file}, os.WriteFile(file, state, 0o600)
}

// tls makes two authorities, a server certificate and client certificates.
func (b *Broker) tls(clientCerts bool) ([]string, error) {
	b.URL = "mqtts://" + net.JoinHostPort(b.host, b.port)
	right, err := b.authority("ca")
	if err != nil {
		return nil, err
	}
	other, err := b.authority("other-ca")
	if err != nil {
		return nil, err
	}
	b.CA, b.OtherCA = right.file, other.file
	cert, key, err := b.issue(right, "server", x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, err
	}
	if b.ClientCert, b.ClientKey, err = b.issue(right, "client", x509.ExtKeyUsageClientAuth); err != nil {
		return nil, err
	}
	if b.WrongCert, b.WrongKey, err = b.issue(other, "stranger", x509.ExtKeyUsageClientAuth); err != nil {
		return nil, err
	}
	lines := []string{"cafile " + b.CA, "certfile " + cert, "keyfile " + key}
	if clientCerts {
		lines = append(lines, "require_certificate true")
	}
	return lines, nil
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func (b *Broker) authority(name string) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	template := certificate(name)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return authority{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, err
	}
	file := filepath.Join(b.dir, name+".pem")
	return authority{cert, key, file}, writePEM(file, "CERTIFICATE", der)
}

// issue makes a certificate for localhost, and its key.
func (b *Broker) issue(by authority, name string, usage x509.ExtKeyUsage) (certFile, keyFile string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := certificate(name)
	template.DNSNames = []string{"localhost"} // and no address: the name must be checked
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{usage}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	if err != nil {
		return "", "", err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", err
	}
	certFile, keyFile = filepath.Join(b.dir, name+".pem"), filepath.Join(b.dir, name+".key")
	if err := writePEM(certFile, "CERTIFICATE", der); err != nil {
		return "", "", err
	}
	return certFile, keyFile, writePEM(keyFile, "PRIVATE KEY", private)
}

func certificate(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64)) // never fails
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
