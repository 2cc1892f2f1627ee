package protect

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

const benchFrame = 9 // packets: a frame of 2.5 Mbit/s at 30 a second

// BenchmarkSeal has what a packet costs with each implementation; `make
// bench-crypto` runs it also as if the CPU had no AES instructions.
func BenchmarkSeal(b *testing.B) {
	for _, i := range Implementations() {
		for _, profile := range Profiles {
			b.Run(strings.Fields(i.Name)[0]+"/"+profile.String(), func(b *testing.B) {
				p := protector(b, i, profile)
				buf, ends := trial(profile, benchFrame, trialPacket)
				b.SetBytes(benchFrame * trialPacket)
				b.ReportAllocs()
				seq := uint16(0)
				for b.Loop() {
					from := 0
					for _, end := range ends {
						binary.BigEndian.PutUint16(buf[from+2:], seq)
						seq++
						from = end
					}
					if err := p.Seal(buf, ends); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchFrame), "ns/packet")
			})
		}
	}
}

// BenchmarkPion is the same with pion's SRTP, packet by packet.
func BenchmarkPion(b *testing.B) {
	for _, profile := range Profiles {
		b.Run(profile.String(), func(b *testing.B) {
			key, salt := master(profile)
			c, err := srtp.CreateContext(key, salt, srtp.ProtectionProfile(profile))
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, trialPacket+MaxTag)
			var header rtp.Header
			b.SetBytes(trialPacket)
			b.ReportAllocs()
			seq := uint16(0)
			for b.Loop() {
				copy(buf, rtpPacket(0, seq, ""))
				seq++
				if _, err := c.EncryptRTP(buf[:0], buf[:trialPacket], &header); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N), "ns/packet")
		})
	}
}

func TestSealAllocatesNothing(t *testing.T) {
	each(t, func(t *testing.T, i *Implementation, profile Profile) {
		p := protector(t, i, profile)
		buf, ends := trial(profile, 2*chunk, trialPacket)
		if n := testing.AllocsPerRun(100, func() {
			if err := p.Seal(buf, ends); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("%v allocations a frame", n)
		}
	})
}

// BenchmarkBare is the least that AEAD_AES_128_GCM can cost with Go's
// cryptography: nothing but the seals of a frame.
func BenchmarkBare(b *testing.B) {
	block, err := aes.NewCipher(make([]byte, KeySize))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	buf, ends := trial(AES128GCM, benchFrame, trialPacket)
	nonce := make([]byte, gcmSalt)
	b.SetBytes(benchFrame * trialPacket)
	for b.Loop() {
		from := 0
		for _, end := range ends {
			p := buf[from:end]
			aead.Seal(p[12:12], nonce, p[12:len(p)-gcmTag], p[:12])
			from = end
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchFrame), "ns/packet")
}
