package protect

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"runtime"
	"strings"
)

// golang is Go's own cryptography: fast where it knows the CPU's AES
// instructions, and there is no other in a build without cgo.
var golang = &Implementation{
	Name: "Go " + strings.TrimPrefix(runtime.Version(), "go"),
	make: map[Profile]func(*sessionKeys) (sealer, error){AES128GCM: newGoGCM, AES128CM: newGoCM},
}

// goGCM is AEAD_AES_128_GCM (RFC 7714).
type goGCM struct {
	aead  cipher.AEAD
	salt  [gcmSalt]byte
	nonce [gcmSalt]byte // scratch
}

func newGoGCM(k *sessionKeys) (sealer, error) {
	block, err := aes.NewCipher(k.key[:])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &goGCM{aead: aead, salt: [gcmSalt]byte(k.salt)}, nil
}

func (g *goGCM) seal(buf []byte, packets []packet) error {
	for _, p := range packets {
		b := buf[p.start:p.end:p.end]
		header, text := p.payload-p.start, len(b)-gcmTag
		// §8.1: two bytes of zero, SSRC, ROC, sequence number, all XORed with the salt
		copy(g.nonce[:2], g.salt[:2])
		copy(g.nonce[2:6], b[8:12])
		binary.BigEndian.PutUint32(g.nonce[6:], p.roc)
		copy(g.nonce[10:], b[2:4])
		subtle.XORBytes(g.nonce[2:], g.nonce[2:], g.salt[2:])
		g.aead.Seal(b[header:header], g.nonce[:], b[header:text], b[:header])
	}
	return nil
}

// goCM is AES_128_CM_HMAC_SHA1_80 (RFC 3711 §4.1.1, §4.2.1).
type goCM struct {
	block  cipher.Block
	mac    hash.Hash
	salt   [cmSalt]byte
	stream [16 * aes.BlockSize]byte // scratch: key stream
	iv     [aes.BlockSize]byte      // scratch
	roc    [4]byte                  // scratch
	tag    [sha1.Size]byte          // scratch
}

func newGoCM(k *sessionKeys) (sealer, error) {
	block, err := aes.NewCipher(k.key[:])
	if err != nil {
		return nil, err
	}
	return &goCM{block: block, mac: hmac.New(sha1.New, k.auth[:]), salt: [cmSalt]byte(k.salt)}, nil
}

func (c *goCM) seal(buf []byte, packets []packet) error {
	for _, p := range packets {
		b := buf[p.start:p.end:p.end]
		text := len(b) - cmTag
		binary.BigEndian.PutUint32(c.roc[:], p.roc)
		c.encrypt(b, b[p.payload-p.start:text])
		c.mac.Reset()
		c.mac.Write(b[:text])
		c.mac.Write(c.roc[:])
		copy(b[text:], c.mac.Sum(c.tag[:0]))
	}
	return nil
}

// encrypt XORs text with the key stream of its packet, block by block:
// cipher.NewCTR would allocate half a kilobyte for each packet.
func (c *goCM) encrypt(header, text []byte) {
	// §4.1.1: the salt, XORed with the SSRC at byte 4 and the index, ROC and
	// sequence number, at byte 8; bytes 14 and 15 count blocks
	copy(c.iv[:], c.salt[:])
	subtle.XORBytes(c.iv[4:8], c.iv[4:8], header[8:12])
	subtle.XORBytes(c.iv[8:12], c.iv[8:12], c.roc[:])
	subtle.XORBytes(c.iv[12:14], c.iv[12:14], header[2:4])
	counter := uint16(0)
	for len(text) > 0 {
		want := min(len(text), len(c.stream))
		for at := 0; at < want; at += aes.BlockSize {
			binary.BigEndian.PutUint16(c.iv[14:], counter)
			c.block.Encrypt(c.stream[at:], c.iv[:])
			counter++
		}
		text = text[subtle.XORBytes(text, text[:want], c.stream[:]):]
	}
}
