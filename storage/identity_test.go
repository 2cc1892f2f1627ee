package storage

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func identity(t *testing.T, dir string) *Identity {
	t.Helper()
	id, err := OpenIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func equal(a, b *Identity) bool {
	return a.Key.Equal(b.Key) && bytes.Equal(a.TURNSecret, b.TURNSecret) &&
		bytes.Equal(a.Certificate.Certificate[0], b.Certificate.Certificate[0])
}

func TestIdentity(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	id := identity(t, dir)
	if !regexp.MustCompile(`^[a-z2-7]{26}$`).MatchString(id.Box()) {
		t.Errorf("box %q", id.Box())
	}
	if !ed25519.Verify(id.Public(), []byte("m"), ed25519.Sign(id.Key, []byte("m"))) {
		t.Error("the key does not sign")
	}
	leaf := id.Certificate.Leaf
	if leaf.PublicKeyAlgorithm != x509.ECDSA || leaf.NotAfter.Sub(leaf.NotBefore) < 10*365*24*time.Hour {
		t.Errorf("certificate %v, %v to %v", leaf.PublicKeyAlgorithm, leaf.NotBefore, leaf.NotAfter)
	}
	if len(id.TURNSecret) != 32 || bytes.Equal(id.TURNSecret, make([]byte, 32)) {
		t.Errorf("TURN secret of %d bytes", len(id.TURNSecret))
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		if fi, _ := f.Info(); fi.Mode() != 0o600 {
			t.Errorf("%s: mode %v", f.Name(), fi.Mode())
		}
	}
	if !equal(id, identity(t, dir)) {
		t.Error("another identity the second time")
	}
}

// The box's name for a known key, so that it never changes by accident:
// SHA-256 of 32 zero bytes begins 66687aadf862bd776c8fc18b8e9f8e20.
func TestBoxName(t *testing.T) {
	id := Identity{Key: append(make(ed25519.PrivateKey, 32), make([]byte, 32)...)}
	if got := id.Box(); got != "mzuhvlpymk6xo3epygfy5h4oea" {
		t.Errorf("box %s", got)
	}
}

func TestIdentityNeverPrints(t *testing.T) {
	id := identity(t, t.TempDir())
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "id", id)
	js, err := json.Marshal(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(id), fmt.Sprintf("%+v %#v %s", id, id, id), log.String(), string(js)} {
		if !strings.Contains(s, id.Box()) || len(s) > 300 {
			t.Errorf("printed %q", s)
		}
	}
}

func TestIdentityMadeByTwoAtOnce(t *testing.T) {
	dir := t.TempDir()
	ids := make([]*Identity, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			id, err := OpenIdentity(dir)
			if err != nil {
				t.Error(err)
			}
			ids[i] = id
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for _, id := range ids {
		if !equal(id, ids[0]) {
			t.Error("two identities in one directory")
		}
	}
	if es, _ := os.ReadDir(dir); len(es) != 3 {
		t.Errorf("left behind: %v", es)
	}
}

// Each part is made again on its own where it is missing.
func TestIdentityPartMissing(t *testing.T) {
	dir := t.TempDir()
	id := identity(t, dir)
	os.Remove(filepath.Join(dir, dtlsFile))
	again := identity(t, dir)
	if !again.Key.Equal(id.Key) || !bytes.Equal(again.TURNSecret, id.TURNSecret) {
		t.Error("other parts changed")
	}
	if bytes.Equal(again.Certificate.Certificate[0], id.Certificate.Certificate[0]) {
		t.Error("the certificate is the removed one")
	}
}

// Damage is an error that names the file, or harmless; never a new identity.
func TestIdentityDamaged(t *testing.T) {
	dir := t.TempDir()
	id := identity(t, dir)
	for _, name := range []string{keyFile, dtlsFile, turnFile} {
		good := read(t, dir, name)
		r := rand.New(rand.NewPCG(uint64(len(name)), 3))
		refused := 0
		for i := range 120 {
			bad := bytes.Clone(good)
			switch i % 3 {
			case 0:
				bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
			case 1:
				bad = bad[:r.IntN(len(bad))]
			case 2:
				clear(bad[r.IntN(len(bad)):])
			}
			write(t, bad, dir, name)
			got, err := OpenIdentity(dir)
			switch {
			case err == nil && !equal(got, id):
				t.Fatalf("%s: damage made another identity", name)
			case err != nil && (!errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), filepath.Join(dir, name))):
				t.Fatalf("%s: %v", name, err)
			case err != nil:
				refused++
			}
			if !bytes.Equal(read(t, dir, name), bad) {
				t.Fatalf("%s was written over", name)
			}
		}
		if refused < 80 {
			t.Errorf("%s: only %d of 120 damages refused", name, refused)
		}
		write(t, good, dir, name)
	}
	if !equal(id, identity(t, dir)) {
		t.Error("the good files give another identity")
	}
}

func TestIdentityReadOnly(t *testing.T) {
	dir := t.TempDir()
	id := identity(t, dir)
	mount(t, "", dir, "", unix.MS_BIND, "")
	mount(t, "", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	if !equal(id, identity(t, dir)) {
		t.Error("another identity")
	}
}

func TestIdentityNowhere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	write(t, nil, dir)
	if _, err := OpenIdentity(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("err %v", err)
	}
}

func FuzzIdentity(f *testing.F) {
	for _, build := range []func() ([]byte, error){makeKey, makeCertificate, makeTURNSecret} {
		data, err := build()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var id Identity
		if id.readKey(data) == nil && len(id.Key) != ed25519.PrivateKeySize {
			t.Error("a key of the wrong size")
		}
		if id.readCertificate(data) == nil && id.Certificate.PrivateKey == nil {
			t.Error("a certificate without its key")
		}
		if id.readTURNSecret(data) == nil && len(id.TURNSecret) != 32 {
			t.Error("a secret of the wrong size")
		}
	})
}
