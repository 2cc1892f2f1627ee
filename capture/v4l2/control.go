package v4l2

import (
	"fmt"
	"unsafe"

	"edged/capture"
)

// Ids of controls (linux/v4l2-controls.h).
const (
	userBase  = 0x00980900
	codecBase = 0x00990900
	lensBase  = 0x009a0900 // V4L2_CID_CAMERA_CLASS_BASE

	bitrateControl       = codecBase + 207
	repeatHeadersControl = codecBase + 226
	forceKeyframeControl = codecBase + 229
)

// setting is one key of a camera's controls.
type setting struct {
	name string
	id   uint32
	get  func(*capture.Controls) capture.Setting
	unit int // of the configuration in one of the device; 0: 1

	// What must be switched off for it, where the device has that.
	automatic uint32
	manual    int32
}

const (
	whiteBalanceAuto = userBase + 12
	gainAuto         = userBase + 18
	exposureAuto     = lensBase + 1
	focusAuto        = lensBase + 12

	exposureManual = 1 // V4L2_EXPOSURE_MANUAL
)

// settings in the order in which they are made: what chooses between
// automatic and manual before what is then chosen.
var settings = []setting{
	{name: "white_balance_auto", id: whiteBalanceAuto, get: func(c *capture.Controls) capture.Setting { return c.WhiteBalanceAuto }},
	{name: "gain_auto", id: gainAuto, get: func(c *capture.Controls) capture.Setting { return c.GainAuto }},
	{name: "exposure_auto", id: exposureAuto, get: func(c *capture.Controls) capture.Setting { return exposureMode(c.ExposureAuto) }},
	{name: "focus_auto", id: focusAuto, get: func(c *capture.Controls) capture.Setting { return c.FocusAuto }},

	{name: "brightness", id: userBase, get: func(c *capture.Controls) capture.Setting { return c.Brightness }},
	{name: "contrast", id: userBase + 1, get: func(c *capture.Controls) capture.Setting { return c.Contrast }},
	{name: "saturation", id: userBase + 2, get: func(c *capture.Controls) capture.Setting { return c.Saturation }},
	{name: "hue", id: userBase + 3, get: func(c *capture.Controls) capture.Setting { return c.Hue }},
	{name: "gamma", id: userBase + 16, get: func(c *capture.Controls) capture.Setting { return c.Gamma }},
	{name: "gain", id: userBase + 19, get: func(c *capture.Controls) capture.Setting { return c.Gain }, automatic: gainAuto},
	{name: "flip_horizontal", id: userBase + 20, get: func(c *capture.Controls) capture.Setting { return c.FlipHorizontal }},
	{name: "flip_vertical", id: userBase + 21, get: func(c *capture.Controls) capture.Setting { return c.FlipVertical }},
	{name: "power_line", id: userBase + 24, get: func(c *capture.Controls) capture.Setting { return c.PowerLine }},
	{name: "white_balance", id: userBase + 26, get: func(c *capture.Controls) capture.Setting { return c.WhiteBalance }, automatic: whiteBalanceAuto},
	{name: "sharpness", id: userBase + 27, get: func(c *capture.Controls) capture.Setting { return c.Sharpness }},
	{name: "backlight", id: userBase + 28, get: func(c *capture.Controls) capture.Setting { return c.Backlight }},
	{name: "exposure", id: lensBase + 2, get: func(c *capture.Controls) capture.Setting { return c.Exposure }, unit: 100, automatic: exposureAuto, manual: exposureManual},
	{name: "pan", id: lensBase + 8, get: func(c *capture.Controls) capture.Setting { return c.Pan }},
	{name: "tilt", id: lensBase + 9, get: func(c *capture.Controls) capture.Setting { return c.Tilt }},
	{name: "focus", id: lensBase + 10, get: func(c *capture.Controls) capture.Setting { return c.Focus }, automatic: focusAuto},
	{name: "zoom", id: lensBase + 13, get: func(c *capture.Controls) capture.Setting { return c.Zoom }},
}

// exposureMode makes of a truth what the device has four values for. What
// cameras call automatic is mostly aperture priority: the iris does not move.
func exposureMode(s capture.Setting) capture.Setting {
	const aperturePriority = 3
	if s.Set {
		s.Value = map[bool]int{true: aperturePriority, false: exposureManual}[s.Value != 0]
	}
	return s
}

// applyControls makes the settings that are set and says which ones the
// device does not have or take.
func applyControls(n node, c capture.Controls) (unmet []string) {
	for _, s := range settings {
		v := s.get(&c)
		if !v.Set {
			continue
		}
		if s.automatic != 0 {
			_ = setControl(n, s.automatic, s.manual) // not every device has it
		}
		if err := setControl(n, s.id, int32(v.Value/max(1, s.unit))); err != nil {
			unmet = append(unmet, fmt.Sprintf("%s: %v", s.name, err))
		}
	}
	return unmet
}

// setControl sets a control, or says in words for people why it cannot be.
func setControl(n node, id uint32, value int32) error {
	q := queryControl{id: id}
	if n.ioctl(vidiocQueryCtrl, unsafe.Pointer(&q)) != nil || q.flags&controlDisabled != 0 {
		return fmt.Errorf("this camera has no such control")
	}
	if value < q.min || value > q.max {
		return fmt.Errorf("%d is not in its %d..%d", value, q.min, q.max)
	}
	c := control{id: id, value: value}
	if err := n.ioctl(vidiocSCtrl, unsafe.Pointer(&c)); err != nil {
		// The plain automatic, of cameras whose iris moves or who do not tell.
		if c = (control{id: id}); id == exposureAuto && value != exposureManual && n.ioctl(vidiocSCtrl, unsafe.Pointer(&c)) == nil {
			return nil
		}
		return fmt.Errorf("it takes no %d: %w", value, err)
	}
	return nil
}
