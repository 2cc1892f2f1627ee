package dist

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestProtection: SRTP is right on processors that this machine has not, with
// their AES instructions and without, where other code runs.
func TestProtection(t *testing.T) {
	for _, tt := range []struct {
		target string
		run    []string
		env    []string
		by     string // an implementation that must have been there
	}{
		{"arm64", []string{"qemu-aarch64-static"}, nil, "OpenSSL"},
		{"arm64", []string{"qemu-aarch64-static"}, []string{"OPENSSL_armcap=1", "GODEBUG=cpu.aes=off,cpu.pmull=off,cpu.sha1=off"}, "OpenSSL"},
		{"armv7", []string{"qemu-arm-static", "-cpu", "cortex-a7"}, nil, "OpenSSL"},
		{"armv7", []string{"qemu-arm-static", "-cpu", "cortex-a7"}, []string{"OPENSSL_armcap=0"}, "OpenSSL"},
		{"armv6", []string{"qemu-arm-static", "-cpu", "arm1176"}, nil, "Go"},
	} {
		t.Run(strings.Join(append([]string{tt.target}, tt.env...), " "), func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "protect.test")
			build := exec.CommandContext(t.Context(), "scripts/build", program, tt.target, "./forward/protect")
			build.Dir = "../../.."
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("build: %v: %s", err, out)
			}
			args := append(tt.run[1:], program, "-test.v", "-test.run", "AESCM|AESGCM|KeyDerivation|Receiver|SealAgain|SealRefuses|Costs")
			cmd := exec.CommandContext(t.Context(), tt.run[0], args...)
			cmd.Env = append(cmd.Environ(), tt.env...)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for _, want := range []string{"--- PASS: TestReceiver", "--- PASS: TestAESCMKeyStream", "--- PASS: TestAESGCMPacket", "by " + tt.by} {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in %s", want, out)
				}
			}
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, "ns a packet") {
					t.Log(strings.TrimSpace(line))
				}
			}
		})
	}
}
