/* fuzz_image.h: what the fuzz targets of image formats share: the promise of a decoder, damage to pictures, and
 * the loop. A target defines NAME                    the target's name DECODE                  the decoder, as
 * di_png_decode picture(file)           a random whole picture of at most MAX_BYTES, its size mend(file, size)
 * repairs checksums after damage, so that it reaches the decoder before including this, and LEAST, the smallest
 * size that is damaged further. */
#ifndef FUZZ_IMAGE_H
#define FUZZ_IMAGE_H

#include "fuzz.h"

#include "data/data.h"

static volatile uint32_t pixel_sum;

static void read_all(const uint8_t *bytes, size_t count) {
    uint32_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += bytes[i];
    pixel_sum = sum; /* every byte was read, and none of the loop can be left out */
}

static void check_failure(distac_status status) {
    if (status != DISTAC_EFORMAT && status != DISTAC_EUNSUPPORTED && status != DISTAC_ENOMEM)
        broken(distac_last_error());
    if (status != DISTAC_ENOMEM && !strstr(distac_last_error(), "picture.img")) broken(distac_last_error());
}

/* What a decoder promises: a whole picture or a reason, and memory that comes back; and a sample exactly when
 * there is a picture. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    distac_context *context = the_context();
    distac_image *image = NULL;
    int32_t channels = size % 3 == 0 ? 0 : size % 3 == 1 ? 1 : 3;
    distac_status status = DECODE(context, "picture.img", data, size, channels, &image);
    if (status == DISTAC_OK) {
        if (image->width < 1 || image->height < 1 || (channels && image->channels != channels))
            broken("an impossible picture");
        if (image->bytes != (size_t)image->width * (size_t)image->height * (size_t)image->channels)
            broken("pixels of the wrong size");
        read_all(image->pixels, image->bytes);
        distac_image_release(image);
        accepted++;
    } else {
        check_failure(status);
        refused++;
    }
    uint8_t planes[3 * 9 * 9];
    di_sample_plan plan = {.size = 9, .channels = size % 2 ? 3 : 1, .crop = size % 5 == 0, .stream = size};
    distac_status sampled = di_image_sample(context, "picture.img", data, size, &plan, planes);
    if (sampled == DISTAC_OK)
        read_all(planes, 81 * (size_t)plan.channels);
    else
        check_failure(sampled);
    if ((sampled == DISTAC_OK) != (status == DISTAC_OK) && sampled != DISTAC_ENOMEM && status != DISTAC_ENOMEM &&
        !strstr(distac_last_error(), "long and thin"))
        broken("loading and sampling disagree");
    nothing_held(context);
    return 0;
}

#ifndef DISTAC_LIBFUZZER

enum { MAX_BYTES = 8192 };

static size_t picture(uint8_t *file);
static void mend(uint8_t *file, size_t size);

/* The places where damage hurts most are near the front. */
static size_t damage(uint8_t *file, size_t size) {
    size_t at = below(below(2) ? size : size < LEAST ? size : LEAST), n = 1 + below(20), from = below(size);
    switch (below(7)) {
    case 0:
    case 1:
        file[at] = (uint8_t)(below(3) ? below(256) : below(20));
        return size;
    case 2:
        file[at] ^= (uint8_t)(1 << below(8));
        return size;
    case 3:
        for (size_t i = at; i < at + 4 && i < size; i++) file[i] = (uint8_t)(below(2) ? 0xff : 0);
        return size;
    case 4:
        if (at + n > size) return size;
        return cut_out(file, size, at, n);
    case 5:
        if (size + n > MAX_BYTES || from + n > size) return size;
        memmove(file + at + n, file + at, size - at);
        memmove(file + at, file + from, n);
        return size + n;
    default:
        return below(8) ? size : at + 1; /* cut */
    }
}

int main(int argc, char **argv) {
    long rounds = begin(argc, argv, 20000);
    static uint8_t file[MAX_BYTES + 64];
    for (long i = 0; i < rounds; i++) {
        size_t size = picture(file);
        long before = accepted;
        if (i % 16 == 0) {
            try_copy(file, size);
            if (accepted == before) broken(distac_last_error()); /* undamaged */
            continue;
        }
        for (size_t k = 1 + below(3); k > 0 && size > LEAST; k--) size = damage(file, size);
        if (below(4)) mend(file, size);
        try_copy(file, size);
    }
    return finish(rounds);
}

#endif
#endif
