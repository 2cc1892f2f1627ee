package capture

// Setting is one that may be left as the camera has it.
type Setting struct {
	Value int // of a truth 0 or 1
	Set   bool
}

// Controls are the settings of a V4L2 camera, in its own units but for those
// that say theirs.
type Controls struct {
	Exposure         Setting // microseconds
	ExposureAuto     Setting // truth
	Gain             Setting
	GainAuto         Setting // truth
	WhiteBalance     Setting // kelvin
	WhiteBalanceAuto Setting // truth
	Focus            Setting
	FocusAuto        Setting // truth
	PowerLine        Setting // 0: off, 1: 50 Hz, 2: 60 Hz, 3: automatic
	Brightness       Setting
	Contrast         Setting
	Saturation       Setting
	Hue              Setting
	Gamma            Setting
	Sharpness        Setting
	Backlight        Setting
	Zoom             Setting
	Pan              Setting // seconds of arc
	Tilt             Setting // seconds of arc
	FlipHorizontal   Setting // truth
	FlipVertical     Setting // truth
}
