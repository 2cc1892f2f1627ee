package config

import (
	"reflect"
	"strings"
	"testing"

	"edged/capture"
)

// Each key arrives where it belongs, and what is absent is left alone.
func TestControls(t *testing.T) {
	keys := map[string]string{
		"Exposure": "exposure: 7", "ExposureAuto": "exposure_auto: true", "Gain": "gain: 7", "GainAuto": "gain_auto: true",
		"WhiteBalance": "white_balance: 4600", "WhiteBalanceAuto": "white_balance_auto: true", "Focus": "focus: -7", "FocusAuto": "focus_auto: false",
		"PowerLine": "power_line: 60hz", "Brightness": "brightness: 7", "Contrast": "contrast: 7", "Saturation": "saturation: 7", "Hue": "hue: 7",
		"Gamma": "gamma: 7", "Sharpness": "sharpness: 7", "Backlight": "backlight: 7", "Zoom": "zoom: 7", "Pan": "pan: 7", "Tilt": "tilt: 7",
		"FlipHorizontal": "flip_horizontal: true", "FlipVertical": "flip_vertical: true",
	}
	values := map[string]int{"WhiteBalance": 4600, "Focus": -7, "FocusAuto": 0, "PowerLine": 2}
	if all := reflect.TypeFor[capture.Controls](); all.NumField() != len(keys) {
		t.Errorf("%d settings, %d keys", all.NumField(), len(keys))
	}
	for field, key := range keys {
		c, err := Parse([]byte("cameras: [{id: a, source: 'v4l2:auto', controls: {" + key + "}}]"))
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		got := reflect.ValueOf(c.Cameras[0].Controls)
		for i := range got.NumField() {
			s := got.Field(i).Interface().(capture.Setting)
			name := got.Type().Field(i).Name
			want := capture.Setting{}
			if name == field {
				want = capture.Setting{Value: 7, Set: true}
				if v, ok := values[name]; ok {
					want.Value = v
				} else if strings.HasSuffix(key, "true") {
					want.Value = 1
				}
			}
			if s != want {
				t.Errorf("%s: %s is %+v, want %+v", key, name, s, want)
			}
		}
	}
	for _, bad := range []string{"exposure: 0", "exposure: auto", "power_line: 55hz", "focus_auto: 1", "white_balance: 10", "iris: 1"} {
		if _, err := Parse([]byte("cameras: [{id: a, source: 'v4l2:auto', controls: {" + bad + "}}]")); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}
