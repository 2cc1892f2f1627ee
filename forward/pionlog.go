package forward

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// pionLog brings pion's log lines into ours, at debug level whatever pion
// calls them: what a viewer's network does is no trouble of the box.
type pionLog struct{ log *slog.Logger }

// NewLogger implements logging.LoggerFactory.
func (p *pionLog) NewLogger(scope string) logging.LeveledLogger {
	return pionScope{p.log.With("pion", scope)}
}

type pionScope struct{ log *slog.Logger }

func (p pionScope) printf(format string, a ...any) {
	if p.log.Enabled(context.Background(), slog.LevelDebug) {
		p.log.Debug(fmt.Sprintf(format, a...))
	}
}

func (p pionScope) Trace(string)              {}
func (p pionScope) Tracef(string, ...any)     {}
func (p pionScope) Debug(m string)            { p.log.Debug(m) }
func (p pionScope) Debugf(f string, a ...any) { p.printf(f, a...) }
func (p pionScope) Info(m string)             { p.log.Debug(m) }
func (p pionScope) Infof(f string, a ...any)  { p.printf(f, a...) }
func (p pionScope) Warn(m string)             { p.log.Debug(m) }
func (p pionScope) Warnf(f string, a ...any)  { p.printf(f, a...) }
func (p pionScope) Error(m string)            { p.log.Debug(m) }
func (p pionScope) Errorf(f string, a ...any) { p.printf(f, a...) }
