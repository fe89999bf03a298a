/* fuzz_npy.c: the NPY reader on hostile bytes. Built with libFuzzer
 *   clang -g -O1 -DDISTAC_LIBFUZZER -fsanitize=fuzzer,address,undefined -Icore spec/fuzz/fuzz_npy.c ...
 * it searches on its own; built without, main damages a few files, the same way every time:
 *   fuzz_npy [ROUNDS] [SEED] */
#include "data/data.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static long accepted, refused;

static void broken(const char *what) {
    fprintf(stderr, "fuzz_npy: %s\n", what);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static distac_context *context;
    static FILE *file;
    static char path[64];
    distac_context_desc desc = {.threads = 1, .memory_limit = 64 << 20};
    distac_context_info info;
    distac_tensor *t = NULL;
    if (!context && distac_context_create(&desc, &context) != DISTAC_OK) broken(distac_last_error());
    if (!file) {
        file = tmpfile();
        if (!file) broken("no temporary file");
        snprintf(path, sizeof path, "/proc/self/fd/%d", fileno(file));
    }
    if (ftruncate(fileno(file), 0) != 0 || pwrite(fileno(file), data, size, 0) != (ssize_t)size)
        broken("the temporary file cannot be written");
    distac_status status = distac_tensor_npy(context, path, &t);
    if (status == DISTAC_OK) {
        int64_t bytes = t->numel * distac_dtype_bytes(t->dtype), count = 1;
        size_t before = data[6] == 1 ? 10u : 12u, header = (size_t)data[8] | (size_t)data[9] << 8;
        for (int32_t d = 0; d < t->rank; d++) count *= t->shape[d];
        if (count != t->numel) broken("a shape that is not the tensor's");
        if (before == 12) header |= (size_t)data[10] << 16 | (size_t)data[11] << 24;
        if (before + header + (size_t)bytes != size) broken("bytes belong to nothing");
        for (int64_t i = 0; t->dtype == DISTAC_BOOL && i < t->numel; i++)
            if (((const uint8_t *)t->data)[i] > 1) broken("a truth that is neither");
        distac_tensor_release(t);
        accepted++;
    } else {
        if (status != DISTAC_EFORMAT && status != DISTAC_EUNSUPPORTED && status != DISTAC_ENOMEM) broken(distac_last_error());
        refused++;
    }
    if (distac_context_get_info(context, &info) != DISTAC_OK || info.memory_used != 0) broken("memory is still held");
    return 0;
}

#ifndef DISTAC_LIBFUZZER

enum { MAX_BYTES = 4096 };

static uint64_t random_state;
static size_t below(size_t bound) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return bound ? (size_t)(random_state >> 11) % bound : 0;
}

static size_t whole_file(uint8_t *file) {
    static const char *const types[] = {"|b1", "|u1", "<i2", ">u4", "<f8", ">f2"};
    static const size_t widths[] = {1, 1, 2, 4, 8, 2};
    char header[512];
    size_t type = below(6), rank = below(8) ? below(4) : 14 + below(8), count = 1, n;
    n = (size_t)snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': %s, 'shape': (", types[type],
                         below(2) ? "True" : "False");
    for (size_t d = 0; d < rank; d++) {
        size_t side = rank > 4 ? 1 : 1 + below(5);
        count *= side;
        n += (size_t)snprintf(header + n, sizeof header - n, "%zu, ", side);
    }
    n += (size_t)snprintf(header + n, sizeof header - n, "), }\n");
    size_t at = below(3) ? 10 : 12;
    memcpy(file, "\x93NUMPY", 6);
    file[6] = at == 10 ? 1 : (uint8_t)(2 + below(2));
    file[7] = file[10] = file[11] = 0;
    file[8] = (uint8_t)(n & 255);
    file[9] = (uint8_t)(n >> 8);
    memcpy(file + at, header, n);
    for (size_t i = 0; i < count * widths[type]; i++) file[at + n + i] = (uint8_t)below(type ? 256 : 2);
    return at + n + count * widths[type];
}

static size_t damage(uint8_t *file, size_t size) {
    size_t at = below(size), n = 1 + below(9);
    switch (below(5)) {
    case 0:
        file[at] = (uint8_t)below(256);
        return size;
    case 1:
        file[at] ^= (uint8_t)(1 << below(8));
        return size;
    case 2:
        file[below(size < 80 ? size : 80)] = (uint8_t) "{}(),:'\"90L \n\\"[below(14)];
        return size;
    case 3:
        memmove(file + at + n, file + at, size - at);
        return size + n;
    default:
        return below(4) ? size : at + 1;
    }
}

int main(int argc, char **argv) {
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 5000;
    random_state = argc > 2 ? strtoull(argv[2], NULL, 10) : 88172645463325252u;
    static uint8_t file[MAX_BYTES];
    for (long i = 0; i < rounds; i++) {
        size_t size = whole_file(file);
        for (size_t k = i % 8 == 0 ? 0 : 1 + below(3); k > 0; k--) size = damage(file, size);
        LLVMFuzzerTestOneInput(file, size);
    }
    printf("fuzz_npy: %ld rounds, %ld accepted, %ld refused\n", rounds, accepted, refused);
    return accepted > 0 && refused > 0 ? 0 : 1;
}

#endif
