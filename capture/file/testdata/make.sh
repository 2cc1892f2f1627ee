#!/bin/sh
# Makes the recordings of the tests anew: 10 frames of 160 × 90 at 10 frames a second.
set -eu
cd "$(dirname "$0")"
src="-v error -y -f lavfi -i testsrc2=size=160x90:rate=10:duration=1"
flags="-pix_fmt yuv420p -bitexact"
x264="$flags -c:v libx264 -profile:v baseline -preset veryslow -crf 40 -g 5 -bf 0"
ffmpeg $src $x264 clip.h264
ffmpeg $src $x264 clip.mp4
ffmpeg $src $x264 -movflags +faststart -video_track_timescale 12345 faststart.mp4
ffmpeg $src $x264 -movflags frag_keyframe+empty_moov+default_base_moof fragmented.mp4
ffmpeg $src $x264 -movflags frag_keyframe+empty_moov fragmented-base.mp4
ffmpeg $src -f lavfi -i anullsrc=d=1 $x264 -c:a pcm_mulaw -ar 8000 -ac 1 -f mov sound.mov
tone="-f lavfi -i sine=frequency=1000:sample_rate=48000:duration=1"
ffmpeg $src $tone $x264 -c:a libopus -b:a 24k -ac 1 opus.mp4
ffmpeg $src $tone $x264 -c:a libopus -b:a 24k -ac 1 -movflags frag_keyframe+empty_moov+default_base_moof opus-fragmented.mp4
# The sound begins 400 ms after the picture, or before it, by an edit list.
ffmpeg $src -itsoffset 0.4 $tone $x264 -c:a libopus -b:a 24k -ac 1 late-sound.mp4
ffmpeg -v error -y -itsoffset 0.4 -i clip.mp4 -i opus.mp4 -map 0:v -map 1:a -c copy -bitexact late-picture.mp4
ffmpeg $src $flags -c:v libx264 -crf 40 -bf 2 -g 10 bframes.mp4
ffmpeg $src $flags -c:v libx264 -crf 40 -bf 2 -g 10 bframes.h264
ffmpeg $src $flags -c:v libx265 -x265-params log-level=none -crf 40 hevc.mp4
x265="$flags -c:v libx265 -preset fast -crf 40 -x265-params log-level=none:bframes=0:keyint=5:min-keyint=5:info=0"
ffmpeg $src $x265 clip.h265
ffmpeg $src $x265 -tag:v hvc1 hvc1.mp4
ffmpeg $src $x265:repeat-headers=1 -tag:v hev1 hev1.mp4
ffmpeg $src $flags -c:v libvpx -b:v 20k -g 5 vp8.ivf
ffmpeg $src $flags -c:v libvpx-vp9 -crf 55 -b:v 0 -g 5 vp9.ivf
ffmpeg $src $flags -c:v libaom-av1 -cpu-used 8 -crf 60 -g 5 av1.ivf
ffmpeg $src $flags -c:v libvpx-vp9 -crf 55 -b:v 0 -g 5 vp9.mp4
ffmpeg $src $flags -c:v libaom-av1 -cpu-used 8 -crf 60 -g 5 av1.mp4
