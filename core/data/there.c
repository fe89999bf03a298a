/* there.c: batches of images made where models compute. Pixels that lie decoded in
 * memory are taken to the device once, as bytes, and stay there with the samples: a
 * batch is then a list of positions. Others travel as bytes and become numbers there. */
#include "../backend/backend.h"
#include "data.h"

#include <stdlib.h>

enum { CHANNELS = 16 }; /* most that a device normalises */

/* The samples' pixels on the device; NULL if they are not in memory or do not fit there. */
static const uint8_t *held(di_samples *s) {
    if (!s->pixels || s->pixels->storage->there || s->refused) return NULL;
    if (s->there) return s->there;
    s->there_bytes = (size_t)s->count * di_samples_bytes(s);
    s->there = di_there_alloc(s->context, s->there_bytes);
    if (s->there && di_there_put(s->context, s->there, s->pixels->data, s->there_bytes) != DISTAC_OK) {
        di_there_free(s->context, s->there, s->there_bytes);
        s->there = NULL;
    }
    s->refused = s->there == NULL; /* no room: batches travel one by one */
    return s->there;
}

void di_samples_forget_there(di_samples *s) {
    if (s->there) di_there_free(s->context, s->there, s->there_bytes);
    s->there = NULL;
}

static bool fits(const distac_dataset *d) {
    return di_models_there(d->samples->context) && d->samples->channels <= CHANNELS;
}

static distac_status new_images(const distac_dataset *d, int64_t n, distac_tensor **out) {
    const di_samples *s = d->samples;
    const int64_t shape[4] = {n, s->channels, s->height, s->width};
    return di_tensor_new_there(s->context, DISTAC_F32, 4, shape, false, out);
}

/* n images of `bytes`, in the order of a list, both on the device; list NULL: as they lie. */
static distac_status normalize(const distac_dataset *d, int64_t n, const uint8_t *bytes, const int64_t *list,
                               distac_tensor **out) {
    const di_samples *s = d->samples;
    DI_TRY(new_images(d, n, out));
    distac_status status = di_kernels_there(s->context, DISTAC_F32)
                               ->pixels(s->context, n, s->channels, (int64_t)s->height * s->width, bytes, list,
                                        d->mean, d->std, (*out)->data);
    if (status == DISTAC_OK) return DISTAC_OK;
    distac_tensor_release(*out);
    *out = NULL;
    return status;
}

/* Host memory to the device and through normalize. */
static distac_status carry(const distac_dataset *d, int64_t n, const void *from, size_t bytes,
                           const uint8_t *pixels, distac_tensor **out) {
    distac_context *c = d->samples->context;
    void *memory = di_there_alloc(c, bytes);
    if (!memory) return DISTAC_ENOMEM;
    distac_status status = di_there_put(c, memory, from, bytes);
    if (status == DISTAC_OK) status = normalize(d, n, pixels ? pixels : memory, pixels ? memory : NULL, out);
    di_there_free(c, memory, bytes);
    return status;
}

distac_status di_images_of_planes(const distac_dataset *d, int64_t n, const uint8_t *planes, distac_tensor **out) {
    *out = NULL;
    if (!fits(d) || n == 0) return DISTAC_OK;
    return carry(d, n, planes, (size_t)n * di_samples_bytes(d->samples), NULL, out);
}

distac_status di_images_sent(const distac_dataset *d, int64_t n, void *sending, distac_tensor **out) {
    distac_context *c = d->samples->context;
    const void *bytes;
    *out = NULL;
    if (!fits(d)) return DISTAC_OK;
    DI_TRY(c->device->sending_read(c, sending, &bytes));
    distac_status status = normalize(d, n, bytes, NULL, out);
    distac_status done = c->device->sending_done(c, sending);
    if (status == DISTAC_OK && done != DISTAC_OK) {
        distac_tensor_release(*out);
        *out = NULL;
    }
    return status == DISTAC_OK ? done : status;
}

distac_status di_images_held(const distac_dataset *d, int64_t start, int64_t n, const int64_t *list,
                             distac_tensor **out) {
    *out = NULL;
    const uint8_t *pixels = fits(d) && n > 0 ? held(d->samples) : NULL;
    if (!pixels) return DISTAC_OK;
    int64_t *at = di_new((size_t)n * sizeof *at);
    if (!at) return DISTAC_ENOMEM;
    for (int64_t i = 0; i < n; i++) {
        int64_t k = list ? list[i] : start + i;
        at[i] = d->order ? d->order[k] : k;
    }
    distac_status status = carry(d, n, at, (size_t)n * sizeof *at, pixels, out);
    free(at);
    return status;
}
