"""Publishes a made-up picture and sound by WHIP, with GStreamer's webrtcbin: publish.py URL TOKEN h264|vp8

Ends, with DELETE, when standard input does. Says "published" once the box has answered.
"""

import sys
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

url, token, codec = sys.argv[1:]
encoders = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=1000 bitrate=800 ! video/x-h264,profile=constrained-baseline"
    " ! rtph264pay config-interval=-1 aggregate-mode=zero-latency ! application/x-rtp,media=video,encoding-name=H264,payload=96",
    "vp8": "vp8enc deadline=1 keyframe-max-dist=1000 target-bitrate=800000 ! rtpvp8pay"
    " ! application/x-rtp,media=video,encoding-name=VP8,payload=96",
}

Gst.init(None)
pipeline = Gst.parse_launch(
    "webrtcbin name=rtc bundle-policy=max-bundle"
    " videotestsrc is-live=true ! video/x-raw,width=640,height=360,framerate=25/1 ! "
    + encoders[codec]
    + ",rtcp-fb-nack-pli=true ! rtc."
    " audiotestsrc is-live=true volume=0.1 ! opusenc ! rtpopuspay ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! rtc."
)
rtc = pipeline.get_by_name("rtc")
loop = GLib.MainLoop()
session = None


def fail(what):
    print(what, flush=True)
    loop.quit()


def offer(promise, _):
    reply = promise.get_reply()  # kept: the description is a part of it
    description = reply.get_value("offer")
    rtc.emit("set-local-description", description, Gst.Promise.new())


def negotiate(_):
    for i in range(2):
        transceiver = rtc.emit("get-transceiver", i)
        transceiver.set_property("direction", GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY)
        transceiver.set_property("do-nack", True)
    rtc.emit("create-offer", None, Gst.Promise.new_with_change_func(offer, None))


def gathered(*_):
    """Posts the offer once it has all candidates."""
    if rtc.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
        GLib.idle_add(post)


def post():
    global session
    body = rtc.get_property("local-description").sdp.as_text().encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/sdp", "Authorization": "Bearer " + token})
    try:
        with urllib.request.urlopen(request) as answer:
            session = urllib.parse.urljoin(url, answer.headers["Location"])
            text = answer.read()
    except urllib.error.HTTPError as error:
        return fail(f"{error.code}: {error.read().decode()}")
    _, sdp = GstSdp.SDPMessage.new()
    GstSdp.sdp_message_parse_buffer(text, sdp)
    rtc.emit("set-remote-description", GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp), Gst.Promise.new())
    print("published", flush=True)
    return False


def told(_, message):
    if message.type == Gst.MessageType.ERROR:
        fail(str(message.parse_error()))


rtc.connect("on-negotiation-needed", negotiate)
rtc.connect("notify::ice-gathering-state", gathered)
pipeline.get_bus().add_signal_watch()
pipeline.get_bus().connect("message", told)
GLib.io_add_watch(sys.stdin.fileno(), GLib.PRIORITY_DEFAULT, GLib.IOCondition.HUP | GLib.IOCondition.IN, lambda *_: loop.quit())
pipeline.set_state(Gst.State.PLAYING)
loop.run()
if session:
    urllib.request.urlopen(urllib.request.Request(session, method="DELETE"))
pipeline.set_state(Gst.State.NULL)
