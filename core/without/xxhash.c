/* xxhash.c, without xxHash: no checkpoint has a fingerprint; what records those of a merge says why there are
 * none. */
#include "io/io.h"
#include <stdlib.h>

struct di_prints {
    int32_t count;
};

distac_status di_prints_open(int32_t count, distac_checkpoint *const *checkpoints, di_prints **out) {
    (void)checkpoints;
    di_prints *prints = di_new(sizeof *prints);
    if (!prints) return DISTAC_ENOMEM;
    prints->count = count;
    *out = prints;
    return DISTAC_OK;
}

void di_prints_look(di_prints *prints, const di_entry *entry, const uint8_t *bytes, int64_t first, int64_t n) {
    (void)prints, (void)entry, (void)bytes, (void)first, (void)n;
}

distac_status di_prints_finish(di_prints *prints) { return (void)prints, DISTAC_OK; }

distac_status di_prints_get(const di_prints *prints, int32_t index, distac_strings **out) {
    (void)prints, (void)index;
    distac_strings *list = di_strings_new();
    distac_status status = list ? di_strings_add(list, "none: this build is without xxHash") : DISTAC_ENOMEM;
    if (status == DISTAC_OK) *out = list;
    else distac_strings_release(list);
    return status;
}

void di_prints_close(di_prints *prints) { free(prints); }

distac_status distac_checkpoint_fingerprint(const distac_checkpoint *checkpoint, distac_strings **out) {
    DI_REQUIRE(checkpoint && out, "checkpoint and out are needed");
    return di_fail(DISTAC_EUNSUPPORTED, "fingerprints are left out: this build is without xxHash");
}
