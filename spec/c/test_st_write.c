/* test_st_write.c: the writer of safetensors files: random round trips, conversion, arithmetic on checkpoints. */
#include "st_files.h"

static uint64_t random_state = 12345;
static uint32_t next_random(uint32_t bound) {
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % bound;
}

static void random_name(char *name) {
    static const char *const letters[] = {
        "a", "B", "7", ".", "/", "\"", "\\", "\n", "\x01", " ", "\xC3\xA9", "\xF0\x9F\x98\x80", "\x7f", "_"};
    name[0] = 0;
    for (uint32_t i = next_random(12) + 1; i > 0; i--) strcat(name, letters[next_random(14)]);
}

static void round_trips(void **state) {
    (void)state;
    for (int trial = 0; trial < 1000; trial++) {
        distac_checkpoint *one;
        char name[64], key[64];
        assert_int_equal(distac_checkpoint_create(context, &one), DISTAC_OK);
        for (uint32_t n = next_random(8); n > 0; n--) {
            int64_t shape[4];
            int32_t rank = (int32_t)next_random(5);
            for (int32_t i = 0; i < rank; i++) shape[i] = next_random(6);
            distac_tensor *tensor;
            random_name(name);
            assert_int_equal(
                distac_tensor_create(context, (int32_t)next_random(DISTAC_DTYPE_COUNT), rank, shape, &tensor),
                DISTAC_OK);
            uint8_t *data = distac_tensor_data(tensor);
            int64_t bytes = distac_tensor_numel(tensor) * distac_dtype_bytes(distac_tensor_dtype(tensor));
            for (int64_t i = 0; i < bytes; i++) data[i] = (uint8_t)next_random(256);
            assert_int_equal(distac_checkpoint_set(one, name, tensor), DISTAC_OK);
            distac_tensor_release(tensor);
        }
        for (uint32_t n = next_random(3); n > 0; n--) {
            random_name(name);
            random_name(key);
            assert_int_equal(distac_checkpoint_set_metadata(one, key, name), DISTAC_OK);
        }
        assert_int_equal(distac_checkpoint_save(one, file_named("a"), -1), DISTAC_OK);
        distac_checkpoint *two = must_open("round trip", file_named("a"));
        assert_int_equal(distac_checkpoint_count(two), distac_checkpoint_count(one));
        for (int64_t i = 0; i < one->count; i++) {
            const di_entry *x = one->entries[i], *y = two->entries[i];
            assert_string_equal(x->name, y->name);
            assert_ptr_equal(x->type, y->type);
            assert_true(di_entry_same_shape(x, y));
            if (x->bytes) assert_memory_equal(x->tensor->data, y->data, (size_t)x->bytes);
            assert_true((size_t)(y->data - y->mapping->map.data) % ((size_t)y->type->bits / 8) == 0);
        }
        assert_int_equal(distac_checkpoint_metadata_count(two), distac_checkpoint_metadata_count(one));
        for (int64_t i = 0; i < distac_checkpoint_metadata_count(one); i++) {
            const char *k = distac_checkpoint_metadata_key(one, i);
            assert_string_equal(distac_checkpoint_metadata_key(two, i), k);
            assert_string_equal(distac_checkpoint_metadata(two, k), distac_checkpoint_metadata(one, k));
        }
        /* Saving over the file the tensors are mapped from. */
        size_t before, after;
        uint8_t *a = read_bytes(file_named("a"), &before);
        assert_int_equal(distac_checkpoint_save(two, file_named("a"), -1), DISTAC_OK);
        uint8_t *b = read_bytes(file_named("a"), &after);
        assert_int_equal(before, after);
        assert_memory_equal(a, b, before);
        assert_int_equal((8 + a[0] + 256u * a[1]) % 8, 0);
        free(a);
        free(b);
        distac_checkpoint_release(one);
        distac_checkpoint_release(two);
    }
}

static void conversion(void **state) {
    (void)state;
    distac_checkpoint *one, *two;
    distac_tensor *tensor;
    int64_t n = 4, count = 2;
    assert_int_equal(distac_checkpoint_create(context, &one), DISTAC_OK);
    assert_int_equal(distac_tensor_create(context, DISTAC_F32, 1, &n, &tensor), DISTAC_OK);
    assert_int_equal(distac_tensor_write(tensor, 4, (double[]){1, 1.00390625, -2, 65519}), DISTAC_OK);
    assert_int_equal(distac_checkpoint_set(one, "f", tensor), DISTAC_OK);
    distac_tensor_release(tensor);
    assert_int_equal(distac_tensor_create(context, DISTAC_I64, 1, &count, &tensor), DISTAC_OK);
    assert_int_equal(distac_tensor_write(tensor, 2, (double[]){7, 1e15}), DISTAC_OK);
    assert_int_equal(distac_checkpoint_set(one, "i", tensor), DISTAC_OK);
    distac_tensor_release(tensor);
    static const int32_t types[] = {DISTAC_F16, DISTAC_BF16, DISTAC_F64};
    static const double want[3][4] = {{1, 1.00390625, -2, 65504}, {1, 1, -2, 65536}, {1, 1.00390625, -2, 65519}};
    for (int t = 0; t < 3; t++) {
        double got[4];
        assert_int_equal(distac_checkpoint_save(one, file_named("c"), types[t]), DISTAC_OK);
        two = must_open("converted", file_named("c"));
        assert_int_equal(distac_checkpoint_tensor(two, 0, &tensor), DISTAC_OK);
        assert_int_equal(distac_tensor_dtype(tensor), types[t]);
        assert_int_equal(distac_tensor_read(tensor, 4, got), DISTAC_OK);
        for (int i = 0; i < 4; i++) assert_true(got[i] == want[t][i]);
        distac_tensor_release(tensor);
        assert_int_equal(distac_checkpoint_tensor(two, 1, &tensor), DISTAC_OK);
        assert_int_equal(distac_tensor_dtype(tensor), DISTAC_I64);
        distac_tensor_release(tensor);
        distac_checkpoint_release(two);
    }
    /* A finite value that does not fit is refused, and nothing appears. */
    assert_int_equal(distac_checkpoint_tensor(one, 0, &tensor), DISTAC_OK);
    assert_int_equal(distac_tensor_write(tensor, 4, (double[]){1, 2, 65520, 0}), DISTAC_OK);
    distac_tensor_release(tensor);
    assert_int_equal(distac_checkpoint_save(one, file_named("narrow"), DISTAC_F16), DISTAC_ENUMERIC);
    assert_non_null(strstr(distac_last_error(), "\"f\", element 2: 65520"));
    assert_int_equal(distac_path_kind(file_named("narrow")), 0);
    assert_int_equal(distac_checkpoint_save(one, file_named("narrow"), DISTAC_I64), DISTAC_EINVAL);
    distac_checkpoint_release(one);
}

static distac_checkpoint *with_tensor(const char *name, int32_t dtype, int32_t rank, const int64_t *shape,
                                      const double *values) {
    distac_checkpoint *checkpoint;
    distac_tensor *tensor;
    assert_int_equal(distac_checkpoint_create(context, &checkpoint), DISTAC_OK);
    assert_int_equal(distac_tensor_create(context, dtype, rank, shape, &tensor), DISTAC_OK);
    assert_int_equal(distac_tensor_write(tensor, distac_tensor_numel(tensor), values), DISTAC_OK);
    assert_int_equal(distac_checkpoint_set(checkpoint, name, tensor), DISTAC_OK);
    distac_tensor_release(tensor);
    return checkpoint;
}

static void combining(void **state) {
    (void)state;
    int64_t shape[2] = {2, 2}, other[2] = {4, 1}, one = 1;
    double norm, got[4];
    distac_checkpoint *a = with_tensor("layer.weight", DISTAC_F32, 2, shape, (double[]){1, 2, 3, 4});
    distac_checkpoint *b = with_tensor("layer.weight", DISTAC_BF16, 2, shape, (double[]){1, 1, 1, 1});
    distac_checkpoint *c = with_tensor("layer.wieght", DISTAC_F32, 2, shape, (double[]){1, 1, 1, 1});
    distac_checkpoint *d = with_tensor("layer.weight", DISTAC_F32, 2, other, (double[]){1, 1, 1, 1});
    distac_tensor *steps, *view;
    assert_int_equal(distac_tensor_create(context, DISTAC_I64, 1, &one, &steps), DISTAC_OK);
    assert_int_equal(distac_checkpoint_set(a, "steps", steps), DISTAC_OK);
    distac_tensor_release(steps);
    distac_checkpoint *tau = NULL, *half = NULL;
    assert_int_equal(distac_checkpoint_combine(1, a, -1, b, &tau), DISTAC_OK);
    assert_int_equal(distac_checkpoint_count(tau), 1);
    assert_int_equal(distac_checkpoint_norm(tau, &norm), DISTAC_OK);
    assert_true(fabs(norm - sqrt(14)) < 1e-12);
    assert_int_equal(distac_checkpoint_scale(0.5, tau, &half), DISTAC_OK);
    assert_int_equal(distac_checkpoint_tensor_norm(half, 0, &norm), DISTAC_OK);
    assert_true(fabs(norm - sqrt(14) / 2) < 1e-12);
    assert_int_equal(distac_checkpoint_tensor(half, 0, &view), DISTAC_OK);
    assert_int_equal(distac_tensor_read(view, 4, got), DISTAC_OK);
    for (int i = 0; i < 4; i++) assert_true(got[i] == 0.5 * i);
    assert_int_equal(distac_checkpoint_combine(1, a, -1, c, &tau), DISTAC_ENOTFOUND);
    assert_non_null(strstr(distac_last_error(), "\"layer.weight\" (nearest: \"layer.wieght\")"));
    assert_non_null(strstr(distac_last_error(), "\"layer.wieght\" (nearest: \"layer.weight\")"));
    assert_int_equal(distac_checkpoint_combine(1, a, -1, d, &tau), DISTAC_ESHAPE);
    assert_non_null(strstr(distac_last_error(), "[2,2]"));
    assert_non_null(strstr(distac_last_error(), "[4,1]"));
    assert_int_equal(distac_checkpoint_tensor_norm(a, 1, &norm), DISTAC_EDTYPE);
    assert_int_equal(distac_checkpoint_tensor_norm(a, 2, &norm), DISTAC_EINVAL);
    /* A strided view is stored by its elements. */
    distac_tensor *turned;
    assert_int_equal(distac_tensor_transpose(view, 0, 1, &turned), DISTAC_OK);
    distac_tensor_release(view);
    distac_checkpoint *turn;
    assert_int_equal(distac_checkpoint_create(context, &turn), DISTAC_OK);
    assert_int_equal(distac_checkpoint_set(turn, "t", turned), DISTAC_OK);
    distac_tensor_release(turned);
    assert_int_equal(distac_checkpoint_save(turn, file_named("t"), -1), DISTAC_OK);
    distac_checkpoint *back = must_open("transposed", file_named("t"));
    float stored[4];
    memcpy(stored, back->entries[0]->data, sizeof stored);
    static const float want[4] = {0, 1, 0.5f, 1.5f};
    assert_memory_equal(stored, want, sizeof want);
    assert_int_equal(distac_checkpoint_set_metadata(back, "k", "v"), DISTAC_ESTATE);
    assert_int_equal(distac_checkpoint_set_metadata(turn, "k", "\xff"), DISTAC_EINVAL);
    distac_tensor *plain = turn->entries[0]->tensor;
    assert_int_equal(distac_checkpoint_set(back, "x", plain), DISTAC_ESTATE);
    assert_int_equal(distac_checkpoint_set(turn, "__metadata__", plain), DISTAC_EINVAL);
    assert_int_equal(distac_checkpoint_set(turn, "\xC0\xAF", plain), DISTAC_EINVAL);
    distac_checkpoint *all[] = {a, b, c, d, tau, half, turn, back};
    for (int i = 0; i < 8; i++) distac_checkpoint_release(all[i]);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(conversion),
        cmocka_unit_test(combining),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
