package protect

import (
	"crypto/aes"
	"fmt"
)

// Labels of the keys of RTP (RFC 3711 §4.3.2).
const (
	labelEncryption     = 0x00
	labelAuthentication = 0x01
	labelSalt           = 0x02
)

// sessionKeys are what a master key and salt become.
type sessionKeys struct {
	key  [KeySize]byte
	salt []byte
	auth [cmAuth]byte // AES-CM only
}

// derive makes the session keys (RFC 3711 §4.3, RFC 7714 §11). The key
// derivation rate is 0, as DTLS-SRTP has it: they stay.
func derive(profile Profile, key, salt []byte) (sessionKeys, error) {
	var s sessionKeys
	if profile.SaltSize() == 0 {
		return s, fmt.Errorf("%v is not known", profile)
	}
	if len(key) != KeySize || len(salt) != profile.SaltSize() {
		return s, fmt.Errorf("%v: master key of %d and salt of %d bytes, want %d and %d", profile, len(key), len(salt), KeySize, profile.SaltSize())
	}
	s.salt = make([]byte, len(salt))
	for label, to := range map[byte][]byte{labelEncryption: s.key[:], labelAuthentication: s.auth[:], labelSalt: s.salt} {
		if err := prf(to, key, salt, label); err != nil {
			return s, err
		}
	}
	return s, nil
}

// prf fills to with AES-CM key stream (RFC 3711 §4.3.3). A salt of 96 bits is
// padded with zeros (RFC 7714 §11).
func prf(to, key, salt []byte, label byte) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	var in, out [aes.BlockSize]byte
	copy(in[:], salt)
	in[7] ^= label
	for i := 0; len(to) > 0; i++ {
		in[15] = byte(i)
		block.Encrypt(out[:], in[:])
		to = to[copy(to, out[:]):]
	}
	return nil
}
