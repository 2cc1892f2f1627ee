//go:build cgo && linux && (amd64 || arm64 || arm.7)

#include "openh264.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

// What is needed of OpenH264's interface for C, version 2.1.

enum { camera_real_time = 0, bitrate_mode = 1, i420 = 23, all_layers = 4, most_layers = 128 };
enum {
	option_interval = 1, option_frame_rate = 4, option_bitrate = 5, option_max_bitrate = 6, option_frame_skip = 9,
	option_trace_level = 25,
};

typedef struct {
	int usage, width, height, bitrate, rate_control;
	float fps;
} base_params;

typedef struct {
	int layer, bitrate;
} bitrate_info;

typedef struct {
	int format, stride[4];
	unsigned char *plane[4];
	int width, height;
	long long time;
} source_picture;

typedef struct {
	unsigned char temporal, spatial, quality;
	int frame_type;
	unsigned char type;
	int sub_sequence, nal_count;
	int *nal_length;
	unsigned char *data;
} layer_info;

typedef struct {
	int layer_count;
	layer_info layer[most_layers];
	int frame_type, size;
	long long time;
} frame_info;

typedef const struct encoder_table *encoder;
struct encoder_table {
	int (*initialize)(encoder *, const base_params *);
	int (*initialize_ext)(encoder *, const void *);
	int (*default_params)(encoder *, void *);
	int (*uninitialize)(encoder *);
	int (*encode_frame)(encoder *, const source_picture *, frame_info *);
	int (*encode_parameter_sets)(encoder *, frame_info *);
	int (*force_intra_frame)(encoder *, bool);
	int (*set_option)(encoder *, int, void *);
	int (*get_option)(encoder *, int, void *);
};

int WelsCreateSVCEncoder(encoder **);
void WelsDestroySVCEncoder(encoder *);

struct software {
	encoder *e;
	source_picture picture;
	frame_info info;
	unsigned char *unit;
	int room, bitrate;
};

software *software_open(int width, int height, float fps, int bitrate, int interval) {
	software *s = calloc(1, sizeof *s);
	if (s == NULL || WelsCreateSVCEncoder(&s->e) != 0) {
		free(s);
		return NULL;
	}
	int quiet = 0;
	(*s->e)->set_option(s->e, option_trace_level, &quiet);
	base_params p = {camera_real_time, width, height, bitrate, bitrate_mode, fps};
	bool skip = false; // a frame left out is a frame that viewers wait for: rather coarser
	// One thread and one slice, the defaults: more threads gain nothing here and cost the other cameras, and packets of one
	// slice are of equal size.
	if ((*s->e)->initialize(s->e, &p) != 0 || (*s->e)->set_option(s->e, option_frame_skip, &skip) != 0 ||
			(*s->e)->set_option(s->e, option_interval, &interval) != 0) {
		software_close(s);
		return NULL;
	}
	s->bitrate = bitrate;
	software_bitrate(s, bitrate);
	s->picture.format = i420;
	s->picture.width = width;
	s->picture.height = height;
	return s;
}

// Layers are parts of one unit here: the parameter sets, and the picture.
int software_encode(software *s, unsigned char *y, unsigned char *cb, unsigned char *cr, int luma, int chroma, software_unit *unit) {
	s->picture.plane[0] = y;
	s->picture.plane[1] = cb;
	s->picture.plane[2] = cr;
	s->picture.stride[0] = luma;
	s->picture.stride[1] = s->picture.stride[2] = chroma;
	s->info.layer_count = 0;
	unit->size = 0;
	int state = (*s->e)->encode_frame(s->e, &s->picture, &s->info);
	s->picture.plane[0] = s->picture.plane[1] = s->picture.plane[2] = NULL;
	if (state != 0)
		return state;
	for (int i = 0; i < s->info.layer_count; i++) {
		layer_info *l = &s->info.layer[i];
		int size = 0;
		for (int n = 0; n < l->nal_count; n++)
			size += l->nal_length[n];
		if (unit->size + size > s->room) {
			int room = 2 * (unit->size + size);
			unsigned char *grown = realloc(s->unit, room);
			if (grown == NULL)
				return -1;
			s->unit = grown;
			s->room = room;
		}
		memcpy(s->unit + unit->size, l->data, size);
		unit->size += size;
	}
	unit->data = s->unit;
	return 0;
}

void software_keyframe(software *s) { (*s->e)->force_intra_frame(s->e, true); }

static void set_bitrate(software *s, int option, int bitrate) {
	bitrate_info b = {all_layers, bitrate};
	(*s->e)->set_option(s->e, option, &b);
}

// The target never exceeds the limit, on the way either.
void software_bitrate(software *s, int bitrate) {
	set_bitrate(s, option_max_bitrate, bitrate > s->bitrate ? bitrate : s->bitrate);
	set_bitrate(s, option_bitrate, bitrate);
	set_bitrate(s, option_max_bitrate, bitrate);
	s->bitrate = bitrate;
}

void software_rate(software *s, float fps) { (*s->e)->set_option(s->e, option_frame_rate, &fps); }

void software_close(software *s) {
	(*s->e)->uninitialize(s->e);
	WelsDestroySVCEncoder(s->e);
	free(s->unit);
	free(s);
}
