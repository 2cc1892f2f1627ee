package config

import (
	"slices"

	"edged/capture"
)

// powerLines by the number that cameras have for them.
var powerLines = []string{"off", "50hz", "60hz", "auto"}

// controls are a camera's settings as decoded; nil: absent.
type controls struct {
	Exposure         *int
	ExposureAuto     *bool `json:"exposure_auto"`
	Gain             *int
	GainAuto         *bool `json:"gain_auto"`
	WhiteBalance     *int  `json:"white_balance"`
	WhiteBalanceAuto *bool `json:"white_balance_auto"`
	Focus            *int
	FocusAuto        *bool   `json:"focus_auto"`
	PowerLine        *string `json:"power_line"`
	Brightness       *int
	Contrast         *int
	Saturation       *int
	Hue              *int
	Gamma            *int
	Sharpness        *int
	Backlight        *int
	Zoom             *int
	Pan              *int
	Tilt             *int
	FlipHorizontal   *bool `json:"flip_horizontal"`
	FlipVertical     *bool `json:"flip_vertical"`
}

// typed converts settings without faults.
func (c controls) typed() capture.Controls {
	out := capture.Controls{
		Exposure:         setting(c.Exposure),
		ExposureAuto:     truthSetting(c.ExposureAuto),
		Gain:             setting(c.Gain),
		GainAuto:         truthSetting(c.GainAuto),
		WhiteBalance:     setting(c.WhiteBalance),
		WhiteBalanceAuto: truthSetting(c.WhiteBalanceAuto),
		Focus:            setting(c.Focus),
		FocusAuto:        truthSetting(c.FocusAuto),
		Brightness:       setting(c.Brightness),
		Contrast:         setting(c.Contrast),
		Saturation:       setting(c.Saturation),
		Hue:              setting(c.Hue),
		Gamma:            setting(c.Gamma),
		Sharpness:        setting(c.Sharpness),
		Backlight:        setting(c.Backlight),
		Zoom:             setting(c.Zoom),
		Pan:              setting(c.Pan),
		Tilt:             setting(c.Tilt),
		FlipHorizontal:   truthSetting(c.FlipHorizontal),
		FlipVertical:     truthSetting(c.FlipVertical),
	}
	if c.PowerLine != nil {
		out.PowerLine = capture.Setting{Value: slices.Index(powerLines, *c.PowerLine), Set: true}
	}
	return out
}

func setting(v *int) (s capture.Setting) {
	if v != nil {
		s = capture.Setting{Value: *v, Set: true}
	}
	return s
}

func truthSetting(v *bool) (s capture.Setting) {
	if v != nil {
		s.Set = true
	}
	if s.Set && *v {
		s.Value = 1
	}
	return s
}
