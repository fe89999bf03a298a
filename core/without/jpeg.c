/* jpeg.c, without libjpeg: JPEG images are told, and refused by name. None is ever open. */
#include "data/data.h"

static distac_status refuse(const char *name) {
    return di_fail_at(DISTAC_EUNSUPPORTED, "distac_image_load",
                      "%s: JPEG images are left out: this build is without libjpeg", name);
}

distac_status di_jpeg_decode(distac_context *context, const char *name, const uint8_t *bytes, size_t count,
                             int32_t channels, distac_image **out) {
    (void)context, (void)bytes, (void)count, (void)channels, (void)out;
    return refuse(name);
}

distac_status di_jpeg_open(distac_context *context, const char *name, const uint8_t *bytes, size_t count,
                           di_jpeg **out) {
    (void)context, (void)bytes, (void)count, (void)out;
    return refuse(name);
}

distac_status di_jpeg_rows(di_jpeg *jpeg, int32_t x0, int32_t x1, int32_t y0, int32_t y1, di_row_sink sink,
                           void *arg) {
    (void)jpeg, (void)x0, (void)x1, (void)y0, (void)y1, (void)sink, (void)arg;
    return refuse("an image");
}

int32_t di_jpeg_width(const di_jpeg *jpeg) { return (void)jpeg, 0; }
int32_t di_jpeg_height(const di_jpeg *jpeg) { return (void)jpeg, 0; }
int32_t di_jpeg_channels(const di_jpeg *jpeg) { return (void)jpeg, 0; }
void di_jpeg_close(di_jpeg *jpeg) { (void)jpeg; }
