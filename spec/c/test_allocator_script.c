/* test_allocator_script.c: memory that comes from the host: all of it is counted and given back, and when the host
 * has no more, the call fails with ENOMEM and leaves nothing behind. */
#include "engine_life.h"
#include "script_job.h"

#include <stdatomic.h>

enum { GUARD = 64 };

typedef struct host {
    atomic_llong bytes, blocks, calls, wrong, most;
    long long fail_at;    /* this call and all later ones fail; 0: none */
    long long fail_above; /* as soon as so many bytes are held; 0: never */
} host;

/* What was asked for lies before each block. */
static void *take(void *user, size_t bytes, size_t alignment) {
    host *h = user;
    long long call = atomic_fetch_add(&h->calls, 1) + 1;
    if (alignment == 0 || alignment > GUARD || (alignment & (alignment - 1)) != 0) atomic_fetch_add(&h->wrong, 1);
    if (h->fail_at > 0 && call >= h->fail_at) return NULL;
    if (h->fail_above > 0 && atomic_load(&h->bytes) + (long long)bytes > h->fail_above) return NULL;
    size_t *memory = aligned_alloc(GUARD, (GUARD + bytes + GUARD - 1) / GUARD * GUARD);
    if (!memory) return NULL;
    memory[0] = bytes;
    memory[1] = alignment;
    atomic_fetch_add(&h->blocks, 1);
    long long held = atomic_fetch_add(&h->bytes, (long long)bytes) + (long long)bytes,
              most = atomic_load(&h->most);
    while (held > most && !atomic_compare_exchange_weak(&h->most, &most, held)) continue;
    memset((char *)memory + GUARD, 0x5a, bytes); /* nobody may count on zeros */
    return (char *)memory + GUARD;
}

static void give(void *user, void *memory, size_t bytes, size_t alignment) {
    host *h = user;
    size_t *start = (size_t *)(void *)((char *)memory - GUARD);
    if (start[0] != bytes || start[1] != alignment) atomic_fetch_add(&h->wrong, 1);
    start[0] = start[1] = 0;
    atomic_fetch_sub(&h->blocks, 1);
    atomic_fetch_sub(&h->bytes, (long long)bytes);
    free(start);
}

static void balanced(host *h) {
    if (atomic_load(&h->blocks) != 0)
        fail_msg("%lld blocks of %lld bytes were not given back; wrong %lld, fail_at %lld above %lld",
                 (long long)h->blocks, (long long)h->bytes, (long long)h->wrong, h->fail_at, h->fail_above);
    assert_int_equal(atomic_load(&h->bytes), 0);
    assert_int_equal(atomic_load(&h->wrong), 0);
}

/* The same life with the host's memory and with the system's; then with less and less memory. */
static void engine(void **state) {
    (void)state;
    host h = {0};
    const distac_allocator allocator = {take, give, &h};
    life plain = {.number = 1, .threads = 2}, hosted = {.number = 1, .threads = 2, .allocator = &allocator};
    live(&plain);
    assert_int_equal(plain.status, DISTAC_OK);
    live(&hosted);
    if (hosted.status != DISTAC_OK) fail_msg("%s", hosted.text);
    assert_string_equal(hosted.digest, plain.digest);
    balanced(&h);
    long long calls = atomic_load(&h.calls);
    assert_true(calls > 50 && atomic_load(&h.most) > 100000);
    for (long long at = 1; at <= calls; at += 1 + calls / 40) {
        host poor = {.fail_at = at};
        const distac_allocator from_poor = {take, give, &poor};
        hosted.allocator = &from_poor;
        live(&hosted);
        balanced(&poor);
        if (hosted.status != DISTAC_ENOMEM || !strstr(hosted.text, "memory"))
            fail_msg("call %lld of %lld: %s: %s", at, calls, distac_status_name(hosted.status), hosted.text);
    }
}

static void refusals(void **state) {
    (void)state;
    host h = {0};
    const distac_allocator allocator = {take, give, &h}, half = {take, NULL, &h}, other = {NULL, give, &h};
    distac_context *context;
    distac_tensor *tensor;
    const int64_t shape = 5;
    OK(distac_context_create(NULL, &context));
    assert_int_equal(distac_context_set_allocator(NULL, &allocator), DISTAC_EINVAL);
    assert_int_equal(distac_context_set_allocator(context, &half), DISTAC_EINVAL);
    assert_int_equal(distac_context_set_allocator(context, &other), DISTAC_EINVAL);
    OK(distac_tensor_create(context, DISTAC_F32, 1, &shape, &tensor));
    assert_int_equal(distac_context_set_allocator(context, &allocator), DISTAC_ESTATE);
    distac_tensor_release(tensor);
    OK(distac_context_set_allocator(context, &allocator));
    OK(distac_tensor_create(context, DISTAC_F32, 1, &shape, &tensor));
    double values[5] = {1, 1, 1, 1, 1}; /* a new tensor is zero, whatever the host's memory held */
    OK(distac_tensor_read(tensor, 5, values));
    for (int i = 0; i < 5; i++) assert_true(values[i] == 0);
    assert_true(atomic_load(&h.bytes) >= 20);
    distac_tensor_release(tensor);
    OK(distac_context_set_allocator(context, NULL));
    balanced(&h);
    OK(distac_tensor_create(context, DISTAC_F32, 1, &shape, &tensor));
    assert_int_equal(atomic_load(&h.bytes), 0);
    distac_tensor_release(tensor);
    distac_context_release(context);
}

static distac_status script_life(const distac_allocator *allocator, const char *text, char digest[65],
                                 char error[512]) {
    const distac_context_desc settings = {.threads = 2, .seed = 1};
    const distac_script_desc desc = {.engine = &settings, .allocator = allocator};
    return script_run(&desc, text, digest, error);
}

/* Lua's objects and the tensors of the contexts that scripts make. */
static void script(void **state) {
    (void)state;
    host h = {0};
    const distac_allocator allocator = {take, give, &h};
    char *text = with_root(job), plain[65] = "", hosted[65] = "", error[512] = "";
    assert_int_equal(script_life(NULL, text, plain, error), DISTAC_OK);
    if (script_life(&allocator, text, hosted, error) != DISTAC_OK) fail_msg("%s", error);
    assert_string_equal(hosted, plain);
    balanced(&h);
    long long calls = atomic_load(&h.calls), most = atomic_load(&h.most);
    assert_true(calls > 5000);
    for (int i = 0; i < 24; i++) {
        host poor = {.fail_at = i < 12 ? 1 + calls * i / 12 : 0, .fail_above = i < 12 ? 0 : most * (i - 11) / 16};
        const distac_allocator from_poor = {take, give, &poor};
        distac_status status = script_life(&from_poor, text, hosted, error);
        balanced(&poor);
        if (status != DISTAC_ENOMEM) fail_msg("%d: %s: %s", i, distac_status_name(status), error);
    }
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(engine),
        cmocka_unit_test(refusals),
        cmocka_unit_test(script),
    };
    return cmocka_run_group_tests(tests, setup_script, teardown);
}
