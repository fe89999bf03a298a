/* fuzz_npy.c: the NPY reader on hostile bytes. Built with libFuzzer
 *   clang -g -O1 -DDISTAC_LIBFUZZER -fsanitize=fuzzer,address,undefined -Icore spec/fuzz/fuzz_npy.c ...
 * it searches on its own; built without, main damages a few files, the same way every time:
 *   fuzz_npy [ROUNDS] [SEED] */
#define NAME "fuzz_npy"
#include "fuzz.h"

#include "data/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static shelf hostile;
    distac_context *context = the_context();
    distac_tensor *t = NULL;
    put_on(&hostile, data, size);
    distac_status status = distac_tensor_npy(context, hostile.path, &t);
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
        if (status != DISTAC_EFORMAT && status != DISTAC_EUNSUPPORTED && status != DISTAC_ENOMEM)
            broken(distac_last_error());
        refused++;
    }
    nothing_held(context);
    return 0;
}

#ifndef DISTAC_LIBFUZZER

enum { MAX_BYTES = 4096 };

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
        return stutter(file, size, MAX_BYTES, at, n);
    default:
        return below(4) ? size : at + 1;
    }
}

int main(int argc, char **argv) {
    long rounds = begin(argc, argv, 5000);
    static uint8_t file[MAX_BYTES];
    for (long i = 0; i < rounds; i++) {
        size_t size = whole_file(file);
        for (size_t k = i % 8 == 0 ? 0 : 1 + below(3); k > 0; k--) size = damage(file, size);
        try_copy(file, size);
    }
    return finish(rounds);
}

#endif
