// OpenH264 as this package uses it.

typedef struct software software;

typedef struct {
	unsigned char *data; // valid until the next call
	int size;            // 0: the picture was left out
} software_unit;

// software_open returns NULL where the library refuses.
software *software_open(int width, int height, float fps, int bitrate, int interval);
// software_encode encodes a picture, 4:2:0, and returns 0, or what the library says is wrong.
int software_encode(software *s, unsigned char *y, unsigned char *cb, unsigned char *cr, int luma, int chroma, software_unit *unit);
void software_keyframe(software *s);
void software_bitrate(software *s, int bitrate);
void software_rate(software *s, float fps);
void software_close(software *s);
