package v4l2

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"
)

// TestABI compiles the sizes, places and numbers of abi.go against the
// kernel's header, for each processor that is built for. What Go makes of
// them here is what it makes everywhere: abi.go does not compile otherwise.
func TestABI(t *testing.T) {
	if word != 8 {
		t.Skip("the compilers run on a 64-bit machine")
	}
	type check struct {
		c    string
		word [2]uintptr // where a pointer has 4 bytes, and 8
	}
	same := func(n uintptr) [2]uintptr { return [2]uintptr{n, n} }
	number := func(n uintptr, size4 uintptr) [2]uintptr { return [2]uintptr{n&^(0x3fff<<16) | size4<<16, n} }
	var (
		pix   pixFormat
		multi mplaneFormat
		buf   buffer
	)
	checks := []check{
		{"sizeof(struct v4l2_capability)", same(unsafe.Sizeof(capability{}))},
		{"offsetof(struct v4l2_capability, device_caps)", same(unsafe.Offsetof(capability{}.deviceCaps))},
		{"sizeof(struct v4l2_fmtdesc)", same(unsafe.Sizeof(fmtDesc{}))},
		{"offsetof(struct v4l2_fmtdesc, pixelformat)", same(unsafe.Offsetof(fmtDesc{}.fourcc))},
		{"sizeof(struct v4l2_format)", [2]uintptr{204, unsafe.Sizeof(pix)}},
		{"offsetof(struct v4l2_format, fmt.pix.sizeimage)", [2]uintptr{24, unsafe.Offsetof(pix.sizeImage)}},
		{"offsetof(struct v4l2_format, fmt.pix_mp.plane_fmt)", [2]uintptr{24, unsafe.Offsetof(multi.planes)}},
		{"sizeof(struct v4l2_plane_pix_format)", same(unsafe.Sizeof(multi.planes[0]))},
		{"offsetof(struct v4l2_format, fmt.pix_mp.num_planes)", [2]uintptr{184, unsafe.Offsetof(multi.numPlanes)}},
		{"sizeof(struct v4l2_streamparm)", same(unsafe.Sizeof(streamParm{}))},
		{"offsetof(struct v4l2_streamparm, parm.capture.timeperframe)", same(unsafe.Offsetof(streamParm{}.timePerFrame))},
		{"sizeof(struct v4l2_frmsizeenum)", same(unsafe.Sizeof(frameSize{}))},
		{"offsetof(struct v4l2_frmsizeenum, stepwise.step_height)", same(unsafe.Offsetof(frameSize{}.stepwise) + 20)},
		{"sizeof(struct v4l2_frmivalenum)", same(unsafe.Sizeof(frameInterval{}))},
		{"offsetof(struct v4l2_frmivalenum, discrete)", same(unsafe.Offsetof(frameInterval{}.least))},
		{"sizeof(struct v4l2_requestbuffers)", same(unsafe.Sizeof(requestBuffers{}))},
		{"sizeof(struct v4l2_buffer)", [2]uintptr{68, unsafe.Sizeof(buf)}},
		{"offsetof(struct v4l2_buffer, timestamp)", [2]uintptr{20, unsafe.Offsetof(buf.timestamp)}},
		{"offsetof(struct v4l2_buffer, sequence)", [2]uintptr{44, unsafe.Offsetof(buf.sequence)}},
		{"offsetof(struct v4l2_buffer, m)", [2]uintptr{52, unsafe.Offsetof(buf.m)}},
		{"offsetof(struct v4l2_buffer, length)", [2]uintptr{56, unsafe.Offsetof(buf.length)}},
		{"sizeof(struct v4l2_plane)", [2]uintptr{60, unsafe.Sizeof(plane{})}},
		{"offsetof(struct v4l2_plane, data_offset)", [2]uintptr{12, unsafe.Offsetof(plane{}.dataOffset)}},
		{"sizeof(struct v4l2_control)", same(unsafe.Sizeof(control{}))},
		{"sizeof(struct v4l2_queryctrl)", same(unsafe.Sizeof(queryControl{}))},
		{"offsetof(struct v4l2_queryctrl, flags)", same(unsafe.Offsetof(queryControl{}.flags))},
		{"sizeof(struct v4l2_input)", same(unsafe.Sizeof(input{}))},
		{"offsetof(struct v4l2_input, capabilities)", same(unsafe.Offsetof(input{}.capabilities))},
		{"sizeof(struct v4l2_dv_timings)", same(unsafe.Sizeof(timings{}))},
		{"sizeof(struct v4l2_event_subscription)", same(unsafe.Sizeof(eventSubscription{}))},
		{"sizeof(struct v4l2_event)", [2]uintptr{128, unsafe.Sizeof(event{})}},
		{"offsetof(struct v4l2_event, u)", same(unsafe.Offsetof(event{}.changes))},

		{"VIDIOC_QUERYCAP", same(vidiocQueryCap)},
		{"VIDIOC_ENUM_FMT", same(vidiocEnumFmt)},
		{"VIDIOC_G_FMT", number(vidiocGFmt, 204)},
		{"VIDIOC_S_FMT", number(vidiocSFmt, 204)},
		{"VIDIOC_REQBUFS", same(vidiocReqBufs)},
		{"VIDIOC_QUERYBUF", number(vidiocQueryBuf, 68)},
		{"VIDIOC_QBUF", number(vidiocQBuf, 68)},
		{"VIDIOC_DQBUF", number(vidiocDQBuf, 68)},
		{"VIDIOC_STREAMON", same(vidiocStreamOn)},
		{"VIDIOC_STREAMOFF", same(vidiocStreamOff)},
		{"VIDIOC_G_PARM", same(vidiocGParm)},
		{"VIDIOC_S_PARM", same(vidiocSParm)},
		{"VIDIOC_ENUMINPUT", same(vidiocEnumInput)},
		{"VIDIOC_G_CTRL", same(vidiocGCtrl)},
		{"VIDIOC_S_CTRL", same(vidiocSCtrl)},
		{"VIDIOC_QUERYCTRL", same(vidiocQueryCtrl)},
		{"VIDIOC_G_INPUT", same(vidiocGInput)},
		{"VIDIOC_ENUM_FRAMESIZES", same(vidiocEnumFrameSizes)},
		{"VIDIOC_ENUM_FRAMEINTERVALS", same(vidiocEnumIntervals)},
		{"VIDIOC_S_DV_TIMINGS", same(vidiocSDVTimings)},
		{"VIDIOC_QUERY_DV_TIMINGS", same(vidiocQueryDVTimings)},
		{"VIDIOC_SUBSCRIBE_EVENT", same(vidiocSubscribe)},
		{"VIDIOC_DQEVENT", number(vidiocDQEvent, 128)},

		{"V4L2_CID_BRIGHTNESS", same(userBase)},
		{"V4L2_CID_EXPOSURE_AUTO", same(exposureAuto)},
		{"V4L2_CID_FOCUS_AUTO", same(focusAuto)},
		{"V4L2_CID_AUTOGAIN", same(gainAuto)},
		{"V4L2_CID_AUTO_WHITE_BALANCE", same(whiteBalanceAuto)},
		{"V4L2_CID_MPEG_VIDEO_BITRATE", same(bitrateControl)},
		{"V4L2_CID_MPEG_VIDEO_REPEAT_SEQ_HEADER", same(repeatHeadersControl)},
		{"V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME", same(forceKeyframeControl)},
	}
	for i, compiler := range []string{"arm-linux-gnueabihf-gcc", "aarch64-linux-gnu-gcc", "gcc"} {
		t.Run(compiler, func(t *testing.T) {
			if _, err := exec.LookPath(compiler); err != nil {
				t.Fatalf("%v: scripts/setup installs it", err)
			}
			var c strings.Builder
			c.WriteString("#include <stddef.h>\n#include <linux/videodev2.h>\n")
			for _, k := range checks {
				fmt.Fprintf(&c, "_Static_assert(%s == %d, %q);\n", k.c, k.word[min(i, 1)], k.c)
			}
			file := filepath.Join(t.TempDir(), "abi.c")
			if err := os.WriteFile(file, []byte(c.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(compiler, "-fsyntax-only", file).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
