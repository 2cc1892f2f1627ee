package protect

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// each runs a test of every implementation of every profile.
func each(t *testing.T, f func(t *testing.T, i *Implementation, p Profile)) {
	t.Helper()
	for _, i := range Implementations() {
		for _, p := range Profiles {
			t.Run(i.Name+"/"+p.String(), func(t *testing.T) { f(t, i, p) })
		}
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// master is a master key and salt.
func master(p Profile) (key, salt []byte) {
	all := []byte("the key is of 16 and the salt of 14 bytes")
	return all[:KeySize], all[KeySize : KeySize+p.SaltSize()]
}

func protector(t testing.TB, i *Implementation, p Profile) *Protector {
	t.Helper()
	key, salt := master(p)
	out, err := i.New(p, key, salt)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// receiver is pion's SRTP.
func receiver(t testing.TB, p Profile) *srtp.Context {
	t.Helper()
	key, salt := master(p)
	c, err := srtp.CreateContext(key, salt, srtp.ProtectionProfile(p))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// frame lays packets out as Seal wants them.
func frame(p Profile, packets ...[]byte) (buf []byte, ends []int) {
	for _, b := range packets {
		buf = append(append(buf, b...), make([]byte, p.TagSize())...)
		ends = append(ends, len(buf))
	}
	return buf, ends
}

func rtpPacket(ssrc uint32, seq uint16, payload string) []byte {
	b := []byte{0x80, 96}
	b = binary.BigEndian.AppendUint16(b, seq)
	b = binary.BigEndian.AppendUint32(b, 12345)
	b = binary.BigEndian.AppendUint32(b, ssrc)
	return append(b, payload...)
}

// someRTP is a packet with random CSRCs, extension and payload.
func someRTP(r *rand.Rand, ssrc uint32, seq uint16) []byte {
	b := rtpPacket(ssrc, seq, "")
	for range r.IntN(16) {
		b[0]++
		b = binary.BigEndian.AppendUint32(b, r.Uint32())
	}
	if r.IntN(2) == 0 {
		b[0] |= 0x10
		words := r.IntN(8)
		b = binary.BigEndian.AppendUint16(b, 0xbede)
		b = binary.BigEndian.AppendUint16(b, uint16(words))
		b = append(b, make([]byte, 4*words)...) // padding
	}
	for range r.IntN(1201) {
		b = append(b, byte(r.Uint32()))
	}
	return b
}

// RFC 3711 appendix B.3.
func TestKeyDerivation(t *testing.T) {
	k, err := derive(AES128CM, unhex(t, "E1F97A0D3E018BE0D64FA32C06DE4139"), unhex(t, "0EC675AD498AFEEBB6960B3AABE6"))
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2][]byte{
		"cipher key":  {k.key[:], unhex(t, "C61E7A93744F39EE10734AFE3FF7A087")},
		"cipher salt": {k.salt, unhex(t, "30CBBC08863D8C85D49DB34A9AE1")},
		"auth key":    {k.auth[:], unhex(t, "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4")},
	} {
		if !bytes.Equal(pair[0], pair[1]) {
			t.Errorf("%s %x, want %x", name, pair[0], pair[1])
		}
	}
}

func TestKeyErrors(t *testing.T) {
	for _, tt := range []struct {
		profile   Profile
		key, salt int
		want      string
	}{
		{AES128CM, 16, 12, "AES128_CM_HMAC_SHA1_80: master key of 16 and salt of 12 bytes, want 16 and 14"},
		{AES128GCM, 32, 12, "AEAD_AES_128_GCM: master key of 32 and salt of 12 bytes, want 16 and 12"},
		{0x0008, 32, 12, "profile 0x0008 is not known"},
	} {
		for _, i := range Implementations() {
			if _, err := i.New(tt.profile, make([]byte, tt.key), make([]byte, tt.salt)); err == nil || err.Error() != tt.want {
				t.Errorf("%s: %v, want %s", i.Name, err, tt.want)
			}
		}
		if _, err := New(tt.profile, make([]byte, tt.key), make([]byte, tt.salt)); err == nil || err.Error() != tt.want {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
}

// RFC 3711 appendix B.2: the key stream of all blocks that a packet may have.
func TestAESCMKeyStream(t *testing.T) {
	k := sessionKeys{key: [16]byte(unhex(t, "2B7E151628AED2A6ABF7158809CF4F3C")), salt: unhex(t, "F0F1F2F3F4F5F6F7F8F9FAFBFCFD")}
	for _, i := range Implementations() {
		s, err := i.make[AES128CM](&k)
		if err != nil {
			t.Fatal(err)
		}
		buf, ends := frame(AES128CM, append(rtpPacket(0, 0, ""), make([]byte, 16*0xff02)...))
		if err := s.seal(buf, []packet{{payload: 12, end: uint32(ends[0])}}); err != nil {
			t.Fatal(err)
		}
		for block, want := range map[int]string{
			0: "E03EAD0935C95E80E166B16DD92B4EB4", 1: "D23513162B02D0F72A43A2FE4A5F97AB", 2: "41E95B3BB0A2E8DD477901E4FCA894C0",
			0xfeff: "EC8CDF7398607CB0F2D21675EA9EA1E4", 0xff00: "362B7C3C6773516318A077D7FC5073AE", 0xff01: "6A2CC3787889374FBEB4C81B17BA6C44",
		} {
			if got := buf[12+16*block:][:16]; !bytes.Equal(got, unhex(t, want)) {
				t.Errorf("%s: block %#x is %x, want %s", i.Name, block, got, want)
			}
		}
	}
}

// RFC 7714 §16.1.1.
func TestAESGCMPacket(t *testing.T) {
	k := sessionKeys{key: [16]byte(unhex(t, "000102030405060708090a0b0c0d0e0f")), salt: unhex(t, "517569642070726f2071756f")}
	plain := unhex(t, `8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573`)
	want := unhex(t, `8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf
		8833899d 7f27beb1 6a9152cf 765ee439 0cce`)
	for _, i := range Implementations() {
		s, err := i.make[AES128GCM](&k)
		if err != nil {
			t.Fatal(err)
		}
		buf, ends := frame(AES128GCM, plain)
		if err := s.seal(buf, []packet{{payload: 12, end: uint32(ends[0])}}); err != nil || !bytes.Equal(buf, want) {
			t.Errorf("%s: %x, %v", i.Name, buf, err)
		}
	}
}

// What is sealed is the same with every implementation, and pion's receiver
// gets it back: several SSRCs, all kinds of headers, sequence numbers that wrap
// several times, frames of up to three chunks.
func TestReceiver(t *testing.T) {
	for _, profile := range Profiles {
		t.Run(profile.String(), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, uint64(profile)))
			in := receiver(t, profile)
			var outs []*Protector
			for _, i := range Implementations() {
				outs = append(outs, protector(t, i, profile))
			}
			seqs := []uint16{65530, 1, 32768, 0}
			for range 300 {
				var plain [][]byte
				for range r.IntN(3 * chunk) {
					ssrc := r.IntN(len(seqs))
					plain = append(plain, someRTP(r, uint32(ssrc), seqs[ssrc]))
					seqs[ssrc] += uint16(1 + r.IntN(300))
				}
				sealed, ends := frame(profile, plain...)
				for n, out := range outs {
					buf, _ := frame(profile, plain...)
					if err := out.Seal(buf, ends); err != nil {
						t.Fatal(err)
					}
					if n == 0 {
						sealed = buf
					} else if !bytes.Equal(buf, sealed) {
						t.Fatalf("%s differs from %s", Implementations()[n].Name, Implementations()[0].Name)
					}
				}
				from := 0
				for i, end := range ends {
					got, err := in.DecryptRTP(nil, sealed[from:end], nil)
					if err != nil || !bytes.Equal(got, plain[i]) {
						t.Fatalf("packet of %d bytes, header %x: %v", len(plain[i]), plain[i][:12], err)
					}
					from = end
				}
			}
		})
	}
}

// An old packet is sealed again as it was, after its sequence number wrapped.
func TestSealAgain(t *testing.T) {
	each(t, func(t *testing.T, i *Implementation, profile Profile) {
		out := protector(t, i, profile)
		first := map[uint16][]byte{}
		seal := func(seq uint16) []byte {
			buf, ends := frame(profile, rtpPacket(7, seq, fmt.Sprint("payload ", seq)))
			if err := out.Seal(buf, ends); err != nil {
				t.Fatal(err)
			}
			return buf
		}
		for n := range 300 {
			seq := uint16(65400 + n)
			first[seq] = seal(seq)
		}
		for seq, want := range first {
			if got := seal(seq); !bytes.Equal(got, want) {
				t.Errorf("sequence number %d: %x, then %x", seq, want, got)
			}
		}
	})
}

func TestRollover(t *testing.T) {
	type step struct {
		ssrc uint32
		seq  uint16
		roc  uint32
		err  error
	}
	for name, steps := range map[string][]step{
		"wraps":            {{1, 40000, 0, nil}, {1, 65535, 0, nil}, {1, 0, 1, nil}, {1, 65535, 0, nil}, {1, 1, 1, nil}, {1, 30000, 1, nil}, {1, 60000, 1, nil}, {1, 5, 2, nil}},
		"jumps":            {{1, 100, 0, nil}, {1, 32868, 0, nil}, {1, 65535, 0, nil}, {1, 32766, 1, nil}},
		"back by half":     {{1, 40000, 0, nil}, {1, 7232, 0, nil}, {1, 7231, 1, nil}},
		"several SSRCs":    {{1, 65535, 0, nil}, {2, 0, 0, nil}, {1, 0, 1, nil}, {2, 1, 0, nil}, {3, 65535, 0, nil}, {2, 65535, 0, errBeforeOne}},
		"before the first": {{1, 5, 0, nil}, {1, 65535, 0, errBeforeOne}, {1, 6, 0, nil}, {1, 4, 0, nil}},
	} {
		var p Protector
		for i, s := range steps {
			roc, err := p.rollover(s.ssrc, s.seq)
			if roc != s.roc || !errors.Is(err, s.err) {
				t.Errorf("%s, step %d %+v: %d, %v", name, i, s, roc, err)
			}
		}
	}
	p := Protector{counters: []counter{{1, 1<<48 - 1}}}
	if _, err := p.rollover(1, 0); !errors.Is(err, errUsedUp) {
		t.Errorf("after 2^48 packets: %v", err)
	}
	if roc, err := p.rollover(1, 65534); roc != 1<<32-1 || err != nil {
		t.Errorf("just before: %d, %v", roc, err)
	}
}

func TestSealRefuses(t *testing.T) {
	good := rtpPacket(1, 1, "payload")
	long := slices.Clone(good)
	long[0] |= 0x0f // CSRCs that are not there
	extended := slices.Clone(good)
	extended[0] |= 0x10 // "payload" is no extension that fits
	each(t, func(t *testing.T, i *Implementation, profile Profile) {
		tag := profile.TagSize()
		for name, tt := range map[string]struct {
			buf  []byte
			ends []int
			want error
		}{
			"empty":          {nil, []int{0}, errHeader},
			"no room":        {good[:12], []int{12}, errHeader},
			"room too small": {append(slices.Clone(good[:12]), make([]byte, tag-1)...), []int{11 + tag}, errHeader},
			"CSRC":           {append(long, make([]byte, tag)...), []int{len(long) + tag}, errHeader},
			"extension":      {append(extended, make([]byte, tag)...), []int{len(extended) + tag}, errHeader},
			"not RTP":        {make([]byte, 100), []int{100}, errHeader},
			"behind":         {append(slices.Clone(good), make([]byte, tag)...), []int{len(good) + tag + 1}, errBounds},
			"backwards":      {append(slices.Clone(good), make([]byte, tag)...), []int{len(good) + tag, 3}, errBounds},
			"negative":       {append(slices.Clone(good), make([]byte, tag)...), []int{-1}, errBounds},
		} {
			if err := protector(t, i, profile).Seal(tt.buf, tt.ends); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", name, err, tt.want)
			}
		}
		if err := protector(t, i, profile).Seal(nil, nil); err != nil {
			t.Errorf("no packets: %v", err)
		}
	})
}

func TestCosts(t *testing.T) {
	all, err := Costs()
	if err != nil || len(all) != len(Implementations())*len(Profiles) {
		t.Fatalf("%v, %v", all, err)
	}
	if !slices.IsSortedFunc(all, func(a, b Cost) int { return int(a.Packet - b.Packet) }) || all[0].Packet <= 0 {
		t.Errorf("not by cost: %v", all)
	}
	preferred, err := Preferred()
	if err != nil || len(preferred) != len(Profiles) || preferred[0] != all[0].Profile {
		t.Errorf("preferred %v, %v of %v", preferred, err, all)
	}
	for _, profile := range Profiles {
		best, err := Best(profile)
		i := slices.IndexFunc(all, func(c Cost) bool { return c.Profile == profile })
		if err != nil || best != all[i].Implementation {
			t.Errorf("%v by %v, %v", profile, best, err)
		}
	}
	summary, err := Summary()
	t.Log(summary)
	if err != nil || strings.Count(summary, "ns a packet") != len(all) {
		t.Errorf("%q, %v", summary, err)
	}
}

// Whatever a packet looks like, it is refused, or all implementations seal it
// alike and pion's receiver gets it back.
func FuzzSeal(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 10 {
		b := someRTP(r, r.Uint32(), uint16(r.Uint32()))
		f.Add(b, uint8(len(b)/2))
	}
	f.Add([]byte{}, uint8(0))
	f.Add([]byte{0x90, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0xbe, 0xde, 0xff, 0xff}, uint8(12))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		first, second := b[:min(int(cut), len(b))], b[min(int(cut), len(b)):]
		for _, profile := range Profiles {
			in := receiver(t, profile)
			var sealed []byte
			var refused bool
			for n, i := range Implementations() {
				buf, ends := frame(profile, first, second, b)
				err := protector(t, i, profile).Seal(buf, ends)
				if n == 0 {
					sealed, refused = buf, err != nil
				}
				if refused != (err != nil) || err == nil && !bytes.Equal(buf, sealed) {
					t.Fatalf("%s: %x, %v; before %x", i.Name, buf, err, sealed)
				}
				if err != nil || n > 0 {
					continue
				}
				from := 0
				for k, plain := range [][]byte{first, second, b} {
					if _, err := new(rtp.Header).Unmarshal(plain); err != nil {
						break // pion looks into extensions too (RFC 8285)
					}
					if got, err := in.DecryptRTP(nil, buf[from:ends[k]], nil); err != nil || !bytes.Equal(got, plain) {
						t.Fatalf("%x became %x, %v", plain, got, err)
					}
					from = ends[k]
				}
			}
		}
	})
}
