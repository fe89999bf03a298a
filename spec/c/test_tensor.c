/* test_tensor.c: tensors as objects: shapes, views, copies, memory of others, scalars, running out of memory. */
#include "tensor_test.h"

/* ---- objects and views ---- */

static void shapes_are_checked(void **state) {
    (void)state;
    distac_tensor *tensor;
    int64_t many[17] = {0};
    assert_int_equal(distac_tensor_create(context, DISTAC_F32, 17, many, &tensor), DISTAC_ESHAPE);
    assert_int_equal(distac_tensor_create(context, DISTAC_F32, 1, DIMS(-1), &tensor), DISTAC_ESHAPE);
    assert_int_equal(distac_tensor_create(context, 99, 1, DIMS(1), &tensor), DISTAC_EDTYPE);
    assert_int_equal(distac_tensor_create(context, DISTAC_F32, 3, DIMS(INT64_MAX, 2, 2), &tensor), DISTAC_ESHAPE);
    const int64_t large = INT64_C(1) << 32;
    assert_int_equal(distac_tensor_create(context, DISTAC_F32, 2, DIMS(large, large), &tensor), DISTAC_ESHAPE);
    assert_null(tensor);
    assert_int_equal(distac_tensor_create(NULL, DISTAC_F32, 0, NULL, &tensor), DISTAC_EINVAL);
    tensor = make(DISTAC_F32, 3, DIMS(INT64_MAX, 0, INT64_MAX), NULL); /* empty, whatever the others say */
    assert_int_equal(distac_tensor_numel(tensor), 0);
    distac_tensor *out;
    OK(distac_tensor_fill(tensor, 1));
    OK(distac_tensor_binary(DISTAC_ADD, tensor, tensor, &out));
    distac_tensor_release(out);
    OK(distac_tensor_reduce(DISTAC_SUM, tensor, 0, 0, &out));
    expect(out, 2, DIMS(0, INT64_MAX), NULL, 0);
    distac_tensor_release(out);
    assert_int_equal(distac_tensor_reduce(DISTAC_SUM, tensor, 1, 0, &out), DISTAC_ESHAPE);
    OK(distac_tensor_transpose(tensor, 0, 1, &out));
    distac_tensor *copy;
    OK(distac_tensor_cast(out, DISTAC_F16, &copy));
    distac_tensor_release(copy);
    distac_tensor_release(out);
    distac_tensor_release(tensor);
    distac_tensor_release(NULL);
    assert_int_equal(distac_tensor_numel(NULL), -1);
    assert_int_equal(distac_tensor_size(NULL, 0), -1);
    assert_null(distac_tensor_data(NULL));
}

static void views_share_elements(void **state) {
    (void)state;
    distac_tensor *a = counting(DISTAC_F32, 3, DIMS(2, 3, 4)), *t, *n, *s, *r, *c;
    OK(distac_tensor_transpose(a, 0, 2, &t));
    assert_int_equal(distac_tensor_contiguous(t), 0);
    expect(t, 3, DIMS(4, 3, 2),
           NUMBERS(0, 12, 4, 16, 8, 20, 1, 13, 5, 17, 9, 21, 2, 14, 6, 18, 10, 22, 3, 15, 7, 19, 11, 23), 0);
    OK(distac_tensor_narrow(t, 1, 1, 2, &n));
    OK(distac_tensor_select(n, 0, 3, &s));
    expect(s, 2, DIMS(2, 2), NUMBERS(7, 19, 11, 23), 0);
    OK(distac_tensor_fill(s, -1));
    OK(distac_tensor_reshape(a, 2, DIMS(6, -1), &r));
    expect(r, 2, DIMS(6, 4),
           NUMBERS(0, 1, 2, 3, 4, 5, 6, -1, 8, 9, 10, -1, 12, 13, 14, 15, 16, 17, 18, -1, 20, 21, 22, -1), 0);
    assert_int_equal(distac_tensor_reshape(t, 1, DIMS(24), &c), DISTAC_ESHAPE);
    assert_int_equal(distac_tensor_reshape(a, 2, DIMS(5, -1), &c), DISTAC_ESHAPE);
    assert_int_equal(distac_tensor_reshape(a, 2, DIMS(-1, -1), &c), DISTAC_ESHAPE);
    assert_int_equal(distac_tensor_reshape(a, 1, DIMS(23), &c), DISTAC_ESHAPE);
    assert_int_equal(distac_tensor_narrow(a, 0, 1, 2, &c), DISTAC_EINVAL);
    assert_int_equal(distac_tensor_narrow(a, 0, 1, INT64_MAX, &c), DISTAC_EINVAL);
    assert_int_equal(distac_tensor_select(a, 1, 3, &c), DISTAC_EINVAL);
    assert_int_equal(distac_tensor_transpose(a, 0, 3, &c), DISTAC_EINVAL);
    assert_non_null(strstr(distac_last_error(), "distac_tensor_transpose: dim1 is 3, the tensor is [2,3,4]"));
    distac_tensor_release(a); /* views outlive their source */
    OK(distac_tensor_write(s, 4, NUMBERS(1, 2, 3, 4)));
    expect(s, 2, DIMS(2, 2), NUMBERS(1, 2, 3, 4), 0);
    OK(distac_tensor_cast(s, DISTAC_F16, &c));
    assert_int_equal(distac_tensor_contiguous(c), 1);
    expect(c, 2, DIMS(2, 2), NUMBERS(1, 2, 3, 4), 0);
    distac_tensor_release(c);
    distac_tensor_release(r);
    distac_tensor_release(s);
    distac_tensor_release(n);
    distac_tensor_release(t);
}

static void copies_may_overlap(void **state) {
    (void)state;
    distac_tensor *a = counting(DISTAC_F64, 2, DIMS(3, 3)), *t, *to, *from;
    OK(distac_tensor_transpose(a, 0, 1, &t));
    OK(distac_tensor_copy(a, t));
    expect(a, 2, DIMS(3, 3), NUMBERS(0, 3, 6, 1, 4, 7, 2, 5, 8), 0);
    OK(distac_tensor_narrow(a, 0, 0, 2, &from));
    OK(distac_tensor_narrow(a, 0, 1, 2, &to));
    OK(distac_tensor_copy(to, from));
    expect(a, 2, DIMS(3, 3), NUMBERS(0, 3, 6, 0, 3, 6, 1, 4, 7), 0);
    distac_tensor *half = counting(DISTAC_BF16, 2, DIMS(2, 3));
    OK(distac_tensor_copy(to, half));
    expect(a, 2, DIMS(3, 3), NUMBERS(0, 3, 6, 0, 1, 2, 3, 4, 5), 0);
    assert_int_equal(distac_tensor_copy(a, half), DISTAC_ESHAPE);
    assert_non_null(strstr(distac_last_error(), "dst is [3,3], src is [2,3]"));
    distac_tensor_release(half);
    distac_tensor_release(to);
    distac_tensor_release(from);
    distac_tensor_release(t);
    distac_tensor_release(a);
}

static int released;
static void release_owner(void *owner) { released += *(int *)owner; }

static void foreign_memory_may_be_unaligned_and_read_only(void **state) {
    (void)state;
    int one = 1;
    char bytes[1 + 4 * sizeof(float)];
    float values[] = {1, 2, 3, 4};
    memcpy(bytes + 1, values, sizeof values);
    distac_tensor *a, *t, *sum, *part;
    released = 0;
    OK(di_tensor_foreign(context, DISTAC_F32, 2, DIMS(2, 2), bytes + 1, true, release_owner, &one, &a));
    assert_int_equal(distac_tensor_readonly(a), 1);
    OK(distac_tensor_transpose(a, 0, 1, &t));
    expect(t, 2, DIMS(2, 2), NUMBERS(1, 3, 2, 4), 0);
    OK(distac_tensor_binary(DISTAC_ADD, a, t, &sum));
    expect(sum, 2, DIMS(2, 2), NUMBERS(2, 5, 5, 8), 0);
    assert_int_equal(distac_tensor_fill(t, 1), DISTAC_ESTATE);
    assert_int_equal(distac_tensor_write(a, 4, NUMBERS(1, 2, 3, 4)), DISTAC_ESTATE);
    assert_int_equal(distac_tensor_copy(a, sum), DISTAC_ESTATE);
    assert_int_equal(distac_tensor_random(a, 0, 1, 1), DISTAC_ESTATE);
    OK(di_tensor_slice(a, 1, 1, DIMS(3), &part));
    expect(part, 1, DIMS(3), NUMBERS(2, 3, 4), 0);
    distac_tensor_release(a);
    distac_tensor_release(t);
    assert_int_equal(released, 0);
    distac_tensor_release(part);
    assert_int_equal(released, 1);
    assert_int_equal(di_tensor_slice(sum, 2, 1, DIMS(3), &part), DISTAC_ESHAPE);
    distac_tensor_release(sum);
}

static void scalars_and_empty_tensors_work(void **state) {
    (void)state;
    distac_tensor *scalar = make(DISTAC_F32, 0, NULL, NUMBERS(3)), *empty = make(DISTAC_F32, 2, DIMS(0, 3), NULL);
    distac_tensor *out;
    double value;
    OK(distac_tensor_item(scalar, &value));
    assert_true(value == 3);
    assert_int_equal(distac_tensor_item(empty, &value), DISTAC_ESHAPE);
    OK(distac_tensor_binary(DISTAC_MUL, scalar, scalar, &out));
    expect_item(out, 9, 0);
    OK(distac_tensor_binary(DISTAC_ADD, empty, scalar, &out));
    expect(out, 2, DIMS(0, 3), NULL, 0);
    distac_tensor_release(out);
    OK(distac_tensor_unary(DISTAC_NEG, scalar, &out));
    expect_item(out, -3, 0);
    OK(distac_tensor_unary(DISTAC_EXP, empty, &out));
    distac_tensor_release(out);
    OK(distac_tensor_cast(empty, DISTAC_F16, &out));
    distac_tensor_release(out);
    OK(distac_tensor_fill(empty, 1));
    OK(distac_tensor_random(empty, 0, 1, 2));
    OK(distac_tensor_write(empty, 0, NULL));
    OK(distac_tensor_reduce(DISTAC_SUM, scalar, -1, 0, &out));
    expect_item(out, 3, 0);
    OK(distac_tensor_reduce(DISTAC_SUM, empty, -1, 0, &out));
    expect_item(out, 0, 0);
    OK(distac_tensor_reduce(DISTAC_MEAN, empty, -1, 0, &out));
    expect_item(out, NAN, 0);
    OK(distac_tensor_reduce(DISTAC_SUM, empty, 0, 0, &out));
    expect(out, 1, DIMS(3), NUMBERS(0, 0, 0), 0);
    distac_tensor_release(out);
    OK(distac_tensor_reduce(DISTAC_RMAX, empty, 1, 0, &out));
    expect(out, 1, DIMS(0), NULL, 0);
    distac_tensor_release(out);
    assert_int_equal(distac_tensor_reduce(DISTAC_RMAX, empty, 0, 0, &out), DISTAC_ESHAPE);
    assert_null(out);
    OK(distac_tensor_softmax(scalar, 0, &out));
    expect_item(out, 1, 0);
    OK(distac_tensor_softmax(empty, 0, &out));
    distac_tensor_release(out);
    distac_tensor_release(scalar);
    distac_tensor_release(empty);
}

static void out_of_memory_is_an_error_and_leaks_nothing(void **state) {
    (void)state;
    distac_tensor *a = random_matrix(DISTAC_F32, 64, 48, 1), *h, *t, *u = make(DISTAC_F32, 2, DIMS(64, 48), NULL);
    distac_tensor *s = make(DISTAC_F32, 1, DIMS(48), NULL), *vt = make(DISTAC_F32, 2, DIMS(48, 48), NULL);
    OK(distac_tensor_cast(a, DISTAC_F16, &h));
    OK(distac_tensor_transpose(h, 0, 1, &t));
    distac_context_info info;
    distac_context_get_info(context, &info);
    int64_t used = info.memory_used;
    for (int which = 0; which < 7; which++) {
        int failures = 0;
        for (int64_t extra = 1;; extra += extra < 64 ? 63 : extra / 4) { /* a little more until it succeeds */
            distac_tensor *out = NULL;
            distac_status status = DISTAC_OK;
            OK(distac_context_set_memory_limit(context, used + extra));
            switch (which) {
            case 0: status = distac_tensor_cast(t, DISTAC_F64, &out); break;
            case 1: status = distac_tensor_binary(DISTAC_ADD, h, h, &out); break;
            case 2: status = distac_tensor_unary(DISTAC_EXP, t, &out); break;
            case 3: status = distac_tensor_reduce(DISTAC_SUM, t, 0, 0, &out); break;
            case 4: status = distac_tensor_matmul(h, t, &out); break;
            case 5: status = distac_tensor_softmax(t, 0, &out); break;
            default: status = distac_tensor_svd(h, u, s, vt); break;
            }
            if (status != DISTAC_OK) {
                assert_int_equal(status, DISTAC_ENOMEM);
                assert_null(out);
                failures++;
            }
            distac_tensor_release(out);
            distac_context_get_info(context, &info);
            assert_int_equal(info.memory_used, used);
            if (status == DISTAC_OK) break;
        }
        assert_true(failures > 0);
        OK(distac_context_set_memory_limit(context, 0));
    }
    distac_tensor *all[] = {a, h, t, u, s, vt};
    for (size_t k = 0; k < 6; k++) distac_tensor_release(all[k]);
}

static void test_adopted_memory(void **state) {
    (void)state;
    float memory[6] = {1, 2, 3, 4, 5, 6};
    distac_context_info before, after;
    OK(distac_context_get_info(context, &before));
    distac_tensor *whole = NULL, *row = NULL;
    OK(distac_tensor_adopt(context, DISTAC_F32, 2, DIMS(2, 3), memory, sizeof memory, 0, &whole));
    assert_ptr_equal(distac_tensor_data(whole), memory);
    OK(distac_context_get_info(context, &after));
    assert_int_equal(after.memory_used, before.memory_used); /* not the engine's memory */
    assert_int_equal(distac_tensor_sharers(whole), 1);
    OK(distac_tensor_select(whole, 0, 1, &row));
    assert_ptr_equal(distac_tensor_data(row), memory + 3);
    assert_int_equal(distac_tensor_sharers(whole), 2);
    OK(distac_tensor_fill(row, 7));
    assert_true(memory[2] == 3 && memory[3] == 7 && memory[5] == 7);
    distac_tensor_release(whole);
    assert_int_equal(distac_tensor_sharers(row), 1);
    distac_tensor_release(row);
    memory[0] = 8; /* still the caller's */

    distac_tensor *bad = NULL;
    OK(distac_tensor_adopt(context, DISTAC_F32, 1, DIMS(6), memory, sizeof memory, 1, &bad));
    assert_int_equal(distac_tensor_fill(bad, 0), DISTAC_ESTATE);
    distac_tensor_release(bad);
    bad = NULL;
    assert_int_equal(distac_tensor_adopt(context, DISTAC_F32, 1, DIMS(7), memory, sizeof memory, 0, &bad),
                     DISTAC_ESHAPE);
    assert_null(bad);
    assert_string_equal(distac_last_error(), "distac_tensor_adopt: shape [7] of f32 takes 28 bytes, data has 24");
    assert_int_equal(distac_tensor_adopt(context, DISTAC_F32, 1, DIMS(1), (char *)memory + 1, 8, 0, &bad),
                     DISTAC_EINVAL);
    assert_int_equal(distac_tensor_adopt(context, DISTAC_F32, 1, DIMS(1), memory, -1, 0, &bad), DISTAC_EINVAL);
    assert_int_equal(distac_tensor_adopt(context, DISTAC_F32, 1, DIMS(1), NULL, 8, 0, &bad), DISTAC_EINVAL);
    assert_int_equal(distac_tensor_adopt(context, 99, 1, DIMS(1), memory, 8, 0, &bad), DISTAC_EDTYPE);
    assert_int_equal(distac_tensor_sharers(NULL), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adopted_memory),
        cmocka_unit_test(shapes_are_checked),
        cmocka_unit_test(views_share_elements),
        cmocka_unit_test(copies_may_overlap),
        cmocka_unit_test(foreign_memory_may_be_unaligned_and_read_only),
        cmocka_unit_test(scalars_and_empty_tensors_work),
        cmocka_unit_test(out_of_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
