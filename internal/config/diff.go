package config

import (
	"reflect"

	"edged/capture"
)

// Changes is what differs between two configurations.
type Changes struct {
	Added    []string // cameras, by id
	Removed  []string //
	Changed  []string // their own entry differs: these restart, no others
	Sections []string // other top-level keys whose values differ; uplink stands for stats too
}

// None says that nothing differs.
func (c Changes) None() bool {
	return len(c.Added)+len(c.Removed)+len(c.Changed)+len(c.Sections) == 0
}

// Diff compares values, section by section and camera by camera. The order
// of cameras is no change.
func Diff(a, b Config) Changes {
	var c Changes
	was := map[string]capture.Config{}
	for _, cam := range a.Cameras {
		was[cam.ID] = cam
	}
	for _, cam := range b.Cameras {
		old, ok := was[cam.ID]
		delete(was, cam.ID)
		switch {
		case !ok:
			c.Added = append(c.Added, cam.ID)
		case old != cam:
			c.Changed = append(c.Changed, cam.ID)
		}
	}
	for _, cam := range a.Cameras {
		if _, left := was[cam.ID]; left {
			c.Removed = append(c.Removed, cam.ID)
		}
	}
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range va.NumField() {
		name := va.Type().Field(i).Tag.Get("section")
		if name != "cameras" && !reflect.DeepEqual(va.Field(i).Interface(), vb.Field(i).Interface()) {
			c.Sections = append(c.Sections, name)
		}
	}
	return c
}
