/* png.c, without libpng: PNG images are told, and refused by name. */
#include "data/data.h"

static distac_status refuse(const char *function, const char *name) {
    return di_fail_at(DISTAC_EUNSUPPORTED, function, "%s: PNG images are left out: this build is without libpng",
                      name);
}

distac_status di_png_decode(distac_context *context, const char *name, const uint8_t *bytes, size_t count,
                            int32_t channels, distac_image **out) {
    (void)context, (void)bytes, (void)count, (void)channels, (void)out;
    return refuse("distac_image_load", name);
}

distac_status distac_image_save(const distac_image *image, const char *path) {
    DI_REQUIRE(image, "image is NULL");
    DI_REQUIRE(path, "path is NULL");
    return refuse("distac_image_save", path);
}
