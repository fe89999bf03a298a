/* record.c: steps as recordings. On a device a step whose memory is that of the last one is recorded once and
 * replayed from then on: hundreds of calls become one, and none of them waits for the host. */
#include "train.h"

#include <string.h>

static void forget(di_recorder *r, distac_context *c) {
    if (r->recording) c->device->recording_free(c, r->recording);
    r->recording = NULL;
}

void di_recorder_free(di_recorder *r, distac_context *c) {
    forget(r, c);
    r->known = false;
}

static distac_status record(di_recorder *r, distac_context *c, distac_status (*body)(void *arg), void *arg) {
    void *recording = NULL;
    DI_TRY(c->device->record_begin(c));
    distac_status status = body(arg);
    distac_status ended = c->device->record_end(c, status == DISTAC_OK, &recording);
    DI_TRY(status);
    DI_TRY(ended);
    r->recording = recording;
    return DISTAC_OK;
}

/* The first step with some memory is done piece by piece,
 * which makes all there is to make; the second is recorded. */
distac_status di_recorder_run(di_recorder *r, distac_vit *student, di_recorder_key (*key)(const void *arg),
                              distac_status (*body)(void *arg), void *arg) {
    distac_context *c = student->context;
    if (!di_models_there(c)) return body(arg);
    di_recorder_key now = key(arg);
    bool known = r->known && memcmp(&now, &r->key, sizeof now) == 0;
    if (r->recording && (!known || !c->device->recording_holds(c, r->recording))) forget(r, c);
    if (!known) {
        r->known = false;
        DI_TRY(body(arg));
        r->key = key(arg);
        r->known = true;
        return DISTAC_OK;
    }
    if (!r->recording) DI_TRY(record(r, c, body, arg));
    student->kept_batch = 0; /* what a replay leaves is no forward pass of the caller's */
    DI_TRY(di_poll(c));
    return c->device->replay(c, r->recording);
}
