package forward

import (
	"bytes"
	"testing"

	"edged/capture"
	"edged/forward/protect"

	"github.com/pion/dtls/v3"
	"github.com/pion/srtp/v3"
)

// srtpContext is pion's SRTP with the keys of protector.
func srtpContext(t testing.TB) *srtp.Context {
	t.Helper()
	c, err := srtp.CreateContext(make([]byte, 16), make([]byte, 12), srtp.ProtectionProfileAeadAes128Gcm)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func protector(t testing.TB) *protect.Protector {
	t.Helper()
	p, err := protect.New(protect.AES128GCM, make([]byte, 16), make([]byte, 12))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A viewer's batches reach it with either profile: media, and as RTX.
func TestSealedBatches(t *testing.T) {
	for _, profile := range protect.Profiles {
		v, r := bareViewer(t)
		key, salt := make([]byte, protect.KeySize), make([]byte, profile.SaltSize())
		var err error
		if v.media, err = protect.New(profile, key, salt); err != nil {
			t.Fatal(err)
		}
		in, err := srtp.CreateContext(key, salt, srtp.ProtectionProfile(profile))
		if err != nil {
			t.Fatal(err)
		}
		var b batch
		open := func(want string) {
			t.Helper()
			if !v.seal(&b) || len(b.ends) != 2 {
				t.Fatalf("%v: %d packets", profile, len(b.ends))
			}
			from := 0
			for _, end := range b.ends {
				got, err := in.DecryptRTP(nil, b.buf[from:end], nil)
				if err != nil || !bytes.Contains(got, []byte(want)) {
					t.Errorf("%v: %q, %v", profile, got, err)
				}
				from = end
			}
		}
		fill(r, 0, 1, 1, testTime)
		l := v.lanes[0]
		v.begin(&b)
		f, _, ok := l.pick(testTime.Add(burstWait))
		if !ok {
			t.Fatal("nothing to send")
		}
		l.build(f, &b)
		open("frame 0 packet")
		v.begin(&b)
		for i := range uint16(2) {
			if !l.resend(uint16(l.seq)-2+i, &b) {
				t.Fatal("not sent again")
			}
		}
		open("frame 0 packet")
	}
}

// What cannot be protected is not sent, and ends the viewer.
func TestSealFails(t *testing.T) {
	v, _ := bareViewer(t)
	var reason error
	v.cancel = func(err error) { reason = err }
	if v.seal(&batch{buf: make([]byte, 3), ends: []int{3}}) || reason == nil {
		t.Errorf("sealed: %v", reason)
	}
}

// The profiles are negotiated in the order of what they cost here.
func TestDTLSProfiles(t *testing.T) {
	got, err := dtlsProfiles()
	preferred, _ := protect.Preferred()
	if err != nil || len(got) != 2 || protect.Profile(got[0]) != preferred[0] || got[0] == got[1] {
		t.Fatalf("%v, %v; measured %v", got, err, preferred)
	}
	for _, p := range got {
		if p != dtls.SRTP_AEAD_AES_128_GCM && p != dtls.SRTP_AES128_CM_HMAC_SHA1_80 {
			t.Errorf("offers %v", p)
		}
	}
}

// BenchmarkFrame is what a frame for one viewer costs without the system
// call: headers, payloads, protection.
func BenchmarkFrame(b *testing.B) {
	v, r := bareViewer(b)
	payloads := make([][]byte, 9)
	for i := range payloads {
		payloads[i] = make([]byte, capture.MaxPayload)
	}
	l := v.lanes[0]
	var out batch
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.write(&capture.Frame{RTPTime: uint32(i) * 3000, Keyframe: i%60 == 0, Payloads: payloads}, testTime)
		v.begin(&out)
		f, _, ok := l.pick(testTime)
		if !ok {
			b.Fatal("nothing to send")
		}
		l.build(f, &out)
		if !v.seal(&out) {
			b.Fatal("not sealed")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(payloads)), "ns/packet")
}
