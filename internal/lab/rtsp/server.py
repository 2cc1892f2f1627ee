"""An RTSP server made of GStreamer's: test pictures, in H.264 unless said.

Usage: server.py '{"port": 0, "user": "", "password": ""}'
Prints "port N" when it listens and ends when its standard input does.

Paths: /test     320x240, 25 frames a second, a keyframe a second
       /sub      the same scene in 160x120
       /sets     the same, parameter sets only in the session description
       /resize   changes from 320x240 to 480x272 after 40 frames, in band
       /h265     the same in H.265
       /vp8      the same in VP8
       /vp9      the same in VP9
       /jpeg     Motion JPEG
       /opus     /test with sound in Opus
       /pcma     /test with sound in G.711 A-law
       /udp      /test, over UDP only
       /tcp      /test, over TCP only
"""
import json
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

X264 = ("x264enc tune=zerolatency speed-preset=ultrafast bitrate=600 key-int-max=25"
        " ! video/x-h264,profile=baseline,stream-format=byte-stream")
SCENE = "videotestsrc is-live=true pattern=ball ! video/x-raw,framerate=25/1,"
PICTURE = SCENE + "width=320,height=240"
PAY = "rtph264pay name=pay0 pt=96 aggregate-mode=zero-latency config-interval="


def launch(body):
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch("( " + body + " )")
    factory.set_shared(False)
    return factory


class Resizing(GstRtspServer.RTSPMediaFactory):
    """Renegotiates the caps in front of the encoder while it runs."""

    def do_create_element(self, _url):
        bin_ = Gst.parse_launch(
            "videotestsrc is-live=true pattern=ball ! videoscale"
            " ! capsfilter name=size caps=video/x-raw,width=320,height=240,framerate=25/1"
            " ! identity name=count ! " + X264 + " ! " + PAY + "-1")
        size = bin_.get_by_name("size")
        seen = [0]

        def count(_pad, _info):
            seen[0] += 1
            if seen[0] == 40:
                size.set_property("caps", Gst.Caps.from_string(
                    "video/x-raw,width=480,height=272,framerate=25/1"))
            return Gst.PadProbeReturn.OK

        bin_.get_by_name("count").get_static_pad("src").add_probe(
            Gst.PadProbeType.BUFFER, count)
        return bin_


def protect(server, factories, user, password):
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    token = GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, user)
    auth.add_digest(user, password, token)
    server.set_auth(auth)
    for factory in factories:
        role = GstRtspServer.RTSPPermissions()
        role.add_role(user)
        role.add_permission_for_role(user, "media.factory.access", True)
        role.add_permission_for_role(user, "media.factory.construct", True)
        factory.set_permissions(role)


def main():
    options = json.loads(sys.argv[1])
    Gst.init(None)
    loop = GLib.MainLoop()
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(options["port"]))
    paths = {
        "/test": launch(PICTURE + " ! " + X264 + " ! " + PAY + "-1"),
        "/sub": launch(SCENE + "width=160,height=120 ! " + X264 + " ! " + PAY + "-1"),
        "/sets": launch(PICTURE + " ! " + X264 + " ! h264parse"
                        " ! video/x-h264,stream-format=avc,alignment=au ! " + PAY + "0"),
        "/resize": Resizing(),
        "/jpeg": launch(PICTURE + " ! videoconvert ! video/x-raw,format=I420 ! jpegenc ! rtpjpegpay name=pay0 pt=26"),
        "/udp": launch(PICTURE + " ! " + X264 + " ! " + PAY + "-1"),
        "/tcp": launch(PICTURE + " ! " + X264 + " ! " + PAY + "-1"),
        "/h265": launch(PICTURE + ",format=I420 ! x265enc tune=zerolatency speed-preset=ultrafast bitrate=600 key-int-max=25"
                        " ! rtph265pay name=pay0 pt=96 config-interval=-1"),
        "/vp8": launch(PICTURE + ",format=I420 ! vp8enc deadline=1 keyframe-max-dist=25 ! rtpvp8pay name=pay0 pt=96"),
        "/vp9": launch(PICTURE + ",format=I420 ! vp9enc deadline=1 cpu-used=8 keyframe-max-dist=25 ! rtpvp9pay name=pay0 pt=96"),
    }
    for name, sound in {"opus": "audio/x-raw,rate=48000 ! opusenc ! rtpopuspay pt=97",
                        "pcma": "audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay pt=8"}.items():
        paths["/" + name] = launch(PICTURE + " ! " + X264 + " ! " + PAY + "-1"
                                   " audiotestsrc is-live=true samplesperbuffer=160 ! audioresample ! " + sound + " name=pay1")
    paths["/udp"].set_protocols(GstRtsp.RTSPLowerTrans.UDP)
    paths["/tcp"].set_protocols(GstRtsp.RTSPLowerTrans.TCP)
    for path, factory in paths.items():
        server.get_mount_points().add_factory(path, factory)
    if options["user"]:
        protect(server, paths.values(), options["user"], options["password"])
    if server.attach(None) == 0:
        sys.exit("port %s is in use" % options["port"])
    print("port", server.get_bound_port(), flush=True)
    GLib.io_add_watch(sys.stdin.fileno(), GLib.IO_IN | GLib.IO_HUP, lambda *_: loop.quit())
    loop.run()


main()
