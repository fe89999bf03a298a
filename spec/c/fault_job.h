/* fault_job.h: what the programs with failing calls share: a folder of their own, and work that stops at the first
 * error and then releases everything. */
#ifndef FAULT_JOB_H
#define FAULT_JOB_H

#include "check.h"
#include "sweep.h"
#include <string.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

static char root[64];

/* Leaves for `out` with the status of a failed call. */
#define STEP(call)                                                                                                \
    do {                                                                                                          \
        if ((status = (call)) != DISTAC_OK) goto out;                                                             \
    } while (0)

UNUSED static const char *in_root(char out[256], const char *name) {
    snprintf(out, 256, "%s/%s", root, name);
    return out;
}

UNUSED static void must_copy(const char *from, const char *to) {
    char command[700], path[256];
    snprintf(command, sizeof command, "mkdir -p $(dirname %s) && cp -r %s %s", in_root(path, to), from, path);
    if (system(command) != 0) fail_msg("cannot do: %s", command);
}

UNUSED static const distac_vit_config tiny = {
    .image = 8, .patch = 4, .channels = 3, .width = 16, .layers = 1, .heads = 2, .mlp = 32, .dim = 8,
    .activation = DISTAC_ACT_GELU};

UNUSED static void save_model(distac_context *context, uint64_t seed, const char *name) {
    char path[256];
    distac_vit *vit;
    distac_checkpoint *checkpoint;
    OK(distac_vit_create(context, &tiny, DISTAC_F32, &vit));
    OK(distac_vit_init(vit, seed));
    OK(distac_vit_checkpoint(vit, 0, &checkpoint));
    OK(distac_checkpoint_save(checkpoint, in_root(path, name), -1));
    distac_checkpoint_release(checkpoint);
    distac_vit_release(vit);
}

/* A folder with base.safetensors, m1 and m2, and images of every kind of file in data/a and data/b. */
UNUSED static int setup(void **state) {
    (void)state;
    strcpy(root, "/tmp/distac_faults_XXXXXX");
    if (!mkdtemp(root)) return -1;
    distac_context *context;
    OK(distac_context_create(NULL, &context));
    save_model(context, 1, "base.safetensors");
    save_model(context, 2, "m1.safetensors");
    save_model(context, 3, "m2.safetensors");
    distac_context_release(context);
    must_copy("spec/golden/images/rgb8_i.png", "data/a/1.png");
    must_copy("spec/golden/images/palette4.png", "data/a/2.png");
    must_copy("spec/golden/images/base_420.jpg", "data/b/1.jpg");
    must_copy("spec/golden/images/prog_444.jpg", "data/b/2.jpg");
    return 0;
}

UNUSED static int teardown(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

UNUSED static distac_status digest_file(const char *path, char digest[65]) {
    distac_strings *hash = NULL;
    distac_status status = distac_hash_file(path, &hash);
    if (status == DISTAC_OK) snprintf(digest, 65, "%s", distac_strings_get(hash, 0));
    distac_strings_release(hash);
    return status;
}

UNUSED static void keep_text(distac_status status, char text[512]) {
    if (status != DISTAC_OK) snprintf(text, 512, "%s", distac_last_error());
}

/* Once with one failing call, once with it and all later ones. */
UNUSED static void swept(work w, double seconds) {
    int bad = 0;
    for (int onward = 0; onward < 2; onward++) {
        w.onward = onward;
        bad += sweep(&w, seconds / 2);
    }
    assert_int_equal(bad, 0);
}

#endif
