package forward

import (
	"bytes"
	"testing"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

func srtpContext(t testing.TB) *srtp.Context {
	t.Helper()
	c, err := srtp.CreateContext(make([]byte, 16), make([]byte, 12), srtp.ProtectionProfileAeadAes128Gcm)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSealRTP(t *testing.T) {
	out, in := srtpContext(t), srtpContext(t)
	var header rtp.Header
	var buf []byte
	for i := range 100 {
		from := len(buf)
		buf = appendHeader(buf, true, 106, uint16(65530+i), 1, 2)
		buf = append(buf, bytes.Repeat([]byte{byte(i)}, i*10)...)
		want := bytes.Clone(buf[from:])
		var err error
		if buf, err = sealRTP(out, &header, buf, from); err != nil {
			t.Fatal(err)
		}
		got, err := in.DecryptRTP(nil, buf[from:], nil)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("packet %d: %v", i, err)
		}
	}
}

func BenchmarkSealRTP(b *testing.B) {
	c := srtpContext(b)
	var header rtp.Header
	buf := make([]byte, 0, 2000)
	payload := make([]byte, 1144)
	b.ReportAllocs()
	for i := range b.N {
		buf = append(appendHeader(buf[:0], false, 106, uint16(i), 1, 2), payload...)
		if _, err := sealRTP(c, &header, buf, 0); err != nil {
			b.Fatal(err)
		}
	}
}
