/* bench_merge_device.c: merges of random task vectors of a ViT's shape by a context on a device, no files: from the
 * host's memory to the host's memory, or where they lie on the device.
 *   bench_merge_device SIZE [METHOD [MODELS [ROUNDS [there]]]]   SIZE: tiny, b32, l14.
 * Prints one JSON line: the seconds of the first merge, which makes what there is to make, and the least of the
 * others; gb_s: task vectors and result, each once, in that time; send_s: moving the task vectors to the device. */
#include "distac.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void need(distac_status status) {
    if (status == DISTAC_OK) return;
    fprintf(stderr, "bench_merge_device: %s\n", distac_last_error());
    exit(status == DISTAC_EDEVICE ? 3 : 1);
}

int main(int count, char **list) {
    const char *size = count > 1 ? list[1] : "", *method = count > 2 ? list[2] : "tsvm";
    int models = count > 3 ? atoi(list[3]) : 8, rounds = count > 4 ? atoi(list[4]) : 2;
    int there = count > 5 && strcmp(list[5], "there") == 0;
    distac_vit_config config = {.channels = 3, .activation = DISTAC_ACT_QUICK_GELU};
    int32_t shape[7] = {28, 14, 32, 2, 2, 64, 16};
    if (strcmp(size, "b32") == 0) memcpy(shape, (int32_t[]){224, 32, 768, 12, 12, 3072, 512}, sizeof shape);
    else if (strcmp(size, "l14") == 0) memcpy(shape, (int32_t[]){224, 14, 1024, 24, 16, 4096, 768}, sizeof shape);
    else if (strcmp(size, "tiny") != 0 || models < 1 || models > 64 || rounds < 1) {
        fprintf(stderr, "usage: bench_merge_device tiny|b32|l14 [METHOD [MODELS up to 64 [ROUNDS [there]]]]\n");
        return 2;
    }
    config.image = shape[0], config.patch = shape[1], config.width = shape[2], config.layers = shape[3];
    config.heads = shape[4], config.mlp = shape[5], config.dim = shape[6];
    const distac_context_desc desc = {.device = "cuda"};
    distac_context *c;
    distac_merge *merge;
    distac_checkpoint *taus[64];
    need(distac_context_create(&desc, &c));
    need(distac_merge_create(c, method, &merge));
    distac_vit *vit;
    need(distac_vit_create(c, &config, DISTAC_F32, &vit));
    for (int t = 0; t < models; t++) {
        need(distac_vit_init(vit, (uint64_t)t + 1)); /* such weights stand for task vectors */
        need(distac_vit_checkpoint(vit, 1, &taus[t]));
    }
    distac_vit_release(vit);
    double first = 0.0, least = 0.0, begun = distac_clock(), bytes = 0.0;
    for (int t = 0; t < models && there; t++) {
        distac_checkpoint *here = taus[t];
        need(distac_checkpoint_to(here, "cuda", &taus[t]));
        distac_checkpoint_release(here);
    }
    double sent = distac_clock() - begun;
    for (int64_t i = 0; i < distac_checkpoint_count(taus[0]); i++) {
        distac_checkpoint_info about;
        need(distac_checkpoint_get_info(taus[0], i, &about));
        bytes += (double)about.bytes * (models + 1);
    }
    for (int i = 0; i <= rounds; i++) {
        distac_checkpoint *merged;
        double start = distac_clock();
        need(distac_merge_delta(merge, models, taus, &merged));
        double seconds = distac_clock() - start;
        if (i == 0) first = seconds;
        else if (i == 1 || seconds < least) least = seconds;
        distac_checkpoint_release(merged);
    }
    distac_context_info info;
    need(distac_context_get_info(c, &info));
    printf("{\"who\":\"distac\",\"what\":\"%s\",\"size\":\"%s\",\"models\":%d,\"tensors\":%lld,\"seconds\":%.5f,"
           "\"first_s\":%.4f,\"gb_s\":%.1f,\"there\":%d,\"send_s\":%.3f,\"memory_peak\":%lld}\n",
           method, size, models, (long long)distac_checkpoint_count(taus[0]), least, first, bytes / least / 1e9, there,
           sent, (long long)info.memory_peak);
    for (int t = 0; t < models; t++) distac_checkpoint_release(taus[t]);
    distac_merge_release(merge);
    distac_context_release(c);
    return 0;
}
