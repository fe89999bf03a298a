/* mini8_files.h: where the tests of the embedded benchmark find its sheets, and what data hash to. */
#ifndef MINI8_FILES_H
#define MINI8_FILES_H

#include "data_files.h"

#include "data/mini8.h"

/* C tests run in the root of the repository. */
MAYBE const char *root(void) { return "examples/mini8"; }

MAYBE const char *fashion(void) {
    const char *path = getenv("DISTAC_FASHION_MNIST");
    return path ? path : "/usr/share/datasets/fashion-mnist";
}

MAYBE bool absent(const char *task) {
    return strcmp(task, "fashion") == 0 && distac_path_kind(fashion()) != 2;
}

MAYBE void hash_of(const distac_dataset *d, char out[65]) {
    distac_strings *s = NULL;
    OK(distac_dataset_hash(d, &s));
    memcpy(out, distac_strings_get(s, 0), 65);
    distac_strings_release(s);
}

MAYBE void task_hash(distac_context *c, const char *from, const char *task, int split, char out[65]) {
    distac_dataset *d = NULL;
    OK(distac_dataset_mini8(c, from, fashion(), task, split, &d));
    hash_of(d, out);
    distac_dataset_release(d);
}

#endif
