/* pt_verdicts.h: made PyTorch files before the reader: this one must be read, that one refused for this reason. */
#ifndef PT_VERDICTS_H
#define PT_VERDICTS_H

#include "io/io.h"
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>
#include <cmocka.h>
#include "pt_files.h"

#define MAYBE       __attribute__((unused)) static
#define DICT        "proto } 'w W s ."
#define COUNT(list) (sizeof(list) / sizeof *(list))

static distac_context *context;

MAYBE int setup(void **state) {
    (void)state;
    distac_context_desc desc = {.threads = 2};
    return distac_context_create(&desc, &context);
}

MAYBE int teardown(void **state) {
    (void)state;
    distac_context_info info;
    int held = distac_context_get_info(context, &info) != DISTAC_OK || info.memory_used != 0;
    distac_context_release(context);
    return held;
}

/* Parses a copy of exactly this size, so that a sanitizer sees the first byte too many. */
MAYBE distac_status parse(const buffer *b, distac_checkpoint **out, uint8_t **copy) {
    *copy = malloc(b->size ? b->size : 1);
    memcpy(*copy, b->data, b->size);
    assert_int_equal(distac_checkpoint_create(context, out), DISTAC_OK);
    free((*out)->path);
    (*out)->path = di_strdup("made.pt");
    return di_pt_parse(*out, *copy, b->size);
}

MAYBE void must_reject(const char *rule, buffer *b, const char *reason) {
    distac_checkpoint *ck;
    uint8_t *copy;
    distac_status status = parse(b, &ck, &copy);
    const char *error = status == DISTAC_OK ? "" : distac_last_error();
    if (status != DISTAC_EFORMAT || !strstr(error, reason) || !strstr(error, "made.pt: byte "))
        fail_msg("%s: expected a refusal with \"%s\", got %s: %s", rule, reason, distac_status_name(status),
                 error);
    distac_checkpoint_release(ck);
    free(copy);
    drop(b);
}

MAYBE void must_read(const char *rule, buffer *b, const char *names) {
    distac_checkpoint *ck;
    uint8_t *copy;
    char found[512] = "";
    if (parse(b, &ck, &copy) != DISTAC_OK) fail_msg("%s: expected to be read, got %s", rule, distac_last_error());
    for (int64_t i = 0; i < distac_checkpoint_count(ck); i++) {
        if (i) strcat(found, " ");
        strcat(found, distac_checkpoint_name(ck, i));
    }
    if (strcmp(found, names) != 0) fail_msg("%s: expected the tensors %s, got %s", rule, names, found);
    distac_checkpoint_release(ck);
    free(copy);
    drop(b);
}

MAYBE buffer archive_of(const char *text) {
    buffer pickle = {0}, b = {0};
    assemble(&pickle, text);
    put_archive(&b, pickle.data, pickle.size);
    drop(&pickle);
    return b;
}

#endif
