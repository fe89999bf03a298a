/* tensor_test.h: what the tests of tensors share: a context, tensors from numbers, a comparison that NaN fails. */
#ifndef TENSOR_TEST_H
#define TENSOR_TEST_H

#include "check.h"
#include "tensor/tensor.h"

#include <math.h>
#include <string.h>

#define MAYBE __attribute__((unused)) static

static distac_context *context;

MAYBE int setup(void **state) {
    (void)state;
    distac_context_desc desc = {.threads = 3};
    return distac_context_create(&desc, &context);
}

MAYBE int teardown(void **state) {
    (void)state;
    distac_context_info info;
    distac_context_get_info(context, &info);
    distac_context_release(context);
    return info.memory_used == 0 ? 0 : -1; /* every tensor of every test was released */
}

#define DIMS(...) (const int64_t[]){__VA_ARGS__}
#define NUMBERS(...) (const double[]){__VA_ARGS__}

MAYBE distac_tensor *make(int32_t dtype, int32_t rank, const int64_t *shape, const double *values) {
    distac_tensor *tensor = NULL;
    OK(distac_tensor_create(context, dtype, rank, shape, &tensor));
    if (values) OK(distac_tensor_write(tensor, tensor->numel, values));
    return tensor;
}

MAYBE distac_tensor *counting(int32_t dtype, int32_t rank, const int64_t *shape) {
    distac_tensor *tensor = make(dtype, rank, shape, NULL);
    double *values = malloc((size_t)(tensor->numel + 1) * sizeof *values);
    for (int64_t i = 0; i < tensor->numel; i++) values[i] = (double)i;
    OK(distac_tensor_write(tensor, tensor->numel, values));
    free(values);
    return tensor;
}

/* Fails on NaN where a number is wanted, and on a number where NaN is. */
MAYBE void expect(const distac_tensor *tensor, int32_t rank, const int64_t *shape, const double *wanted,
                   double tolerance) {
    assert_non_null(tensor);
    assert_int_equal(tensor->rank, rank);
    for (int32_t i = 0; i < rank; i++) assert_int_equal(tensor->shape[i], shape[i]);
    double *values = calloc((size_t)tensor->numel + 1, sizeof *values);
    OK(distac_tensor_read(tensor, tensor->numel, values));
    for (int64_t i = 0; i < tensor->numel; i++) {
        bool equal = wanted[i] != wanted[i] ? values[i] != values[i]
                     : isinf(wanted[i])     ? values[i] == wanted[i]
                                            : fabs(values[i] - wanted[i]) <= tolerance;
        if (!equal) fail_msg("element %lld is %.17g, wanted %.17g", (long long)i, values[i], wanted[i]);
    }
    free(values);
}

MAYBE void expect_item(distac_tensor *tensor, double wanted, double tolerance) {
    expect(tensor, 0, NULL, &wanted, tolerance);
    distac_tensor_release(tensor);
}

MAYBE distac_tensor *random_matrix(int32_t dtype, int64_t rows, int64_t columns, uint64_t seed) {
    distac_tensor *a = make(dtype, 2, DIMS(rows, columns), NULL);
    OK(distac_tensor_random(a, 0, seed, 0));
    return a;
}

#endif
