package main

import (
	"net"
	"os"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"edged": func() { os.Exit(start()) }})
}

// TestScripts runs the command line as an operator sees it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("EDGED_DATA", e.WorkDir+"/data")
			e.Setenv("ROOT", strconv.FormatBool(os.Geteuid() == 0))
			for _, name := range []string{"PORT1", "PORT2"} {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				e.Setenv(name, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
				_ = l.Close()
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"fetch": fetch, "await": await},
	})
}
