/* fingerprint.c: what a data set is made of, known without decoding its images: which files, how large, with which
 * labels, in which order. Stands for the pixels where hashing them would mean decoding a whole data set. */
#include "data.h"
#include <stdio.h>
#include <string.h>

/* The file's name with its folder's: the same wherever the data lies. */
static const char *tail(const char *path) {
    const char *end = path + strlen(path), *at = end;
    for (int slashes = 0; at > path; at--) {
        if (at[-1] == '/' && ++slashes == 2) break;
    }
    return at;
}

static void add_file(di_sha256 *hash, const char *path) {
    char text[32];
    const char *name = tail(path);
    di_sha256_update(hash, name, strlen(name));
    int n = snprintf(text, sizeof text, " %lld\n", (long long)distac_path_bytes(path));
    di_sha256_update(hash, text, (size_t)n);
}

distac_status distac_dataset_fingerprint(const distac_dataset *dataset, distac_strings **out) {
    DI_REQUIRE(dataset && out, "dataset and out are needed");
    const di_samples *s = dataset->samples;
    if (!s->files && !s->raw) return distac_dataset_hash(dataset, out);
    di_sha256 hash;
    di_sha256_init(&hash);
    di_dataset_hash_form(dataset, &hash);
    char text[48];
    for (int64_t i = 0; i < dataset->size; i++) {
        int64_t at = dataset->order ? dataset->order[i] : i;
        long long label = s->labels ? (long long)s->labels[at] : -1LL;
        int n = snprintf(text, sizeof text, "%lld %lld ", (long long)at, label);
        di_sha256_update(&hash, text, (size_t)n);
        if (s->files) add_file(&hash, s->files[at]);
    }
    if (!s->files) di_sha256_update(&hash, s->raw->data, (size_t)s->raw->numel);
    return di_sha256_strings(&hash, out);
}
