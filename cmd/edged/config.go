package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"edged/internal/box"
	"edged/internal/config"
	"edged/internal/web"
	"edged/storage"
)

// maxConfig bounds a configuration file in bytes.
const maxConfig = 96 << 10

// sourceDefault is where a configuration comes from that nobody gave.
const sourceDefault = "default"

// live is the running configuration: what it is, where it came from, and how
// it is replaced. It is the web server's ConfigStore.
type live struct {
	store *storage.Store
	box   *box.Box
	auth  func(config.Auth) // follows changes of the auth section
	level *slog.LevelVar
	log   *slog.Logger
	fixed options // flags beat every document

	put sync.Mutex // held while a document is replaced, which may take seconds

	mu      sync.Mutex // guards what follows
	cfg     config.Config
	doc     storage.Document
	applies map[string]uint64 // by result
}

// givenConfig is a configuration file, checked.
type givenConfig struct {
	doc []byte
	cfg config.Config
}

// readConfig reads and checks a file. A fault is a usageError that lists all.
func readConfig(name string) (*givenConfig, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, usagef("%v", err)
	}
	defer f.Close()
	doc, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, usagef("%s: %v", name, err)
	}
	cfg, err := config.Parse(doc)
	var faults config.Faults
	if errors.As(err, &faults) {
		return nil, &usageError{faults.In(name)}
	}
	return &givenConfig{doc, cfg}, err
}

// loadConfig finds the configuration to run: the file's where it says
// something that was not applied before, else the one that ran last, else
// the default.
func loadConfig(given *givenConfig, store *storage.Store, log *slog.Logger) (config.Config, storage.Document, error) {
	last, have, err := store.Config()
	if err != nil {
		log.Error("stored configuration", "err", err)
	}
	if given != nil {
		if have && appliedBefore(store, given.doc, last) {
			log.Info("the file was applied before; the configuration that came after it runs", "source", last.Source, "rev", last.Rev)
		} else {
			d := storage.Document{Bytes: given.doc, Source: "file", Epoch: last.Epoch, Rev: last.Rev + 1, Hash: sha256.Sum256(given.doc)}
			if err := store.SaveConfig(d); err != nil {
				log.Error("the configuration cannot be kept", "err", err)
			}
			return given.cfg, d, nil
		}
	}
	if have {
		if cfg, d, ok := newestValid(store, last, log); ok {
			return cfg, d, nil
		}
	}
	doc := defaultDocument(nil, devices(log))
	cfg, err := config.Parse(doc)
	return cfg, storage.Document{Bytes: doc, Source: sourceDefault}, err
}

// newestValid finds the newest stored configuration that this version takes.
func newestValid(store *storage.Store, last storage.Document, log *slog.Logger) (config.Config, storage.Document, bool) {
	older, err := store.History()
	if err != nil {
		log.Error("stored configurations", "err", err)
	}
	for _, d := range append([]storage.Document{last}, older...) {
		cfg, err := config.Parse(d.Bytes)
		if err == nil {
			return cfg, d, true
		}
		log.Error("a stored configuration is not valid in this version; an older one or the default runs", "rev", d.Rev, "err", err)
	}
	return config.Config{}, storage.Document{}, false
}

// appliedBefore tells whether a file's text is what runs, or was replaced by
// a later configuration from the page or the console.
func appliedBefore(store *storage.Store, doc []byte, last storage.Document) bool {
	hash := sha256.Sum256(doc)
	if last.Hash == hash {
		return true
	}
	history, err := store.History()
	if err != nil {
		return false
	}
	for _, d := range history {
		if d.Hash == hash && d.Source == "file" && last.Source != "file" {
			return true
		}
	}
	return false
}

// current is the running configuration.
func (l *live) current() (config.Config, storage.Document) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cfg, l.doc
}

// Document implements web.ConfigStore.
func (l *live) Document() []byte {
	_, doc := l.current()
	out, err := config.Redacted(doc.Bytes)
	if err != nil {
		l.log.Error("the running configuration", "err", err)
		return []byte("{}")
	}
	return out
}

// Put implements web.ConfigStore: it checks the document whole, applies what
// can be applied, and keeps it. Nothing has changed where it fails.
func (l *live) Put(_ context.Context, doc []byte) (restart []string, err error) {
	l.put.Lock()
	defer l.put.Unlock()
	restart, err = l.replace(doc)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.applies["rejected"]++
	} else {
		l.applies["applied"]++
	}
	return restart, err
}

// replace does the work of Put; l.put is held, so that nobody else changes
// what runs.
func (l *live) replace(doc []byte) (restart []string, err error) {
	old, before := l.current()
	doc, err = config.Merge(before.Bytes, doc)
	if err != nil {
		return nil, faulty(err)
	}
	cfg, err := config.Parse(doc)
	if err != nil {
		return nil, faulty(err)
	}
	if _, err := l.box.Apply(cfg.Cameras); err != nil {
		return nil, err
	}
	d := storage.Document{Bytes: doc, Source: "page", Epoch: before.Epoch, Rev: before.Rev + 1, Hash: sha256.Sum256(doc)}
	if err := l.store.SaveConfig(d); err != nil {
		if _, back := l.box.Apply(old.Cameras); back != nil {
			l.log.Error("the configuration before", "err", back)
		}
		return nil, fmt.Errorf("keep the configuration: %w", err)
	}
	l.auth(cfg.Auth)
	if l.fixed.logLevel == "" {
		l.level.Set(cfg.Log)
	}
	for _, section := range config.Diff(old, cfg).Sections {
		if section != "auth" && section != "log" {
			restart = append(restart, section)
		}
	}
	l.mu.Lock()
	l.cfg, l.doc = cfg, d
	l.mu.Unlock()
	l.log.Info("configuration replaced", "rev", d.Rev, "restart_needed", restart)
	return restart, nil
}

// applied counts replacements by result.
func (l *live) applied() map[string]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]uint64{}
	for k, n := range l.applies {
		out[k] = n
	}
	return out
}

// faultyError is config.Faults as the web server wants them.
type faultyError struct{ list config.Faults }

// Error implements error.
func (e faultyError) Error() string { return e.list.Error() }

// Faults implements web.Faulty.
func (e faultyError) Faults() []web.Fault {
	var out []web.Fault
	for _, f := range e.list {
		out = append(out, web.Fault{Pointer: f.Pointer, Detail: f.Detail})
	}
	return out
}

func faulty(err error) error {
	var faults config.Faults
	if errors.As(err, &faults) {
		return faultyError{faults}
	}
	return err
}
