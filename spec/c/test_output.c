/* test_output.c: models written to one file or to a folder of several: order, patches afterwards, metadata that is
 * replaced, what is there before and after a failure, what killed processes leave. */
#define _GNU_SOURCE 1
#include "check.h"
#include "../../core/io/io.h"
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <fcntl.h>
#include <unistd.h>

static char root[] = "/tmp/distac-output-XXXXXX";
static distac_context *context;

static const char *in_root(const char *name) {
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

static int64_t count_of(const char *folder) {
    distac_strings *names;
    OK(distac_path_list(folder, &names));
    int64_t count = distac_strings_count(names);
    distac_strings_release(names);
    return count;
}

/* Three tensors of bytes and one of words; their places are not in the order of their names. */
enum { ITEMS = 4 };
static const int64_t shape[] = {8};
static distac_status open_four(const char *path, bool folder, int64_t shard, const char *note, int64_t *order,
                               di_output **out) {
    const di_file_type *u8 = di_file_type_named("U8"), *f32 = di_file_type_named("F32");
    const di_st_item items[ITEMS] = {{"a", u8, 1, shape, 8, 3 * DI_LAZY_PARTS},
                                     {"b", u8, 1, shape, 8, DI_LAZY_PARTS + 1},
                                     {"c", u8, 1, shape, 8, DI_LAZY_PARTS},
                                     {"d", f32, 1, shape, 32, 0}};
    const di_pair pair = {(char *)(uintptr_t)"note", (char *)(uintptr_t)note};
    const di_output_desc desc = {path, folder, shard, NULL, 1, &pair};
    return di_output_open(&desc, ITEMS, items, order, out);
}

static void put_all(di_output *output, const int64_t *order) {
    uint8_t bytes[56], *end = bytes;
    for (int i = 0; i < ITEMS; i++) {
        size_t n = order[i] == 3 ? 32 : 8;
        memset(end, order[i] == 3 ? 0 : 'a' + (int)order[i], n);
        end += n;
    }
    for (size_t at = 0; at < sizeof bytes; at += 7)
        OK(di_output_put(output, bytes + at, sizeof bytes - at < 7 ? sizeof bytes - at : 7));
}

static void holds(const char *path, const char *name, const char *want) {
    distac_checkpoint *ck;
    OK(distac_checkpoint_open(context, path, &ck));
    const di_entry *entry = di_checkpoint_entry(ck, name);
    assert_non_null(entry);
    assert_memory_equal(entry->data, want, strlen(want));
    distac_checkpoint_release(ck);
}

static void bytes_come_in_order(void **state) {
    (void)state;
    int64_t order[ITEMS];
    di_output *output;
    for (int way = 0; way < 3; way++) {
        const char *path = in_root(way ? "folder" : "file");
        OK(open_four(path, way > 0, way == 1 ? 0 : 16, "first", order, &output)); /* one file has no limit */
        /* Wide ones first; then by place, which is not the names' order. What is of one tensor stays together. */
        const int64_t want[] = {3, 2, 1, 0};
        assert_memory_equal(order, want, sizeof want);
        put_all(output, order);
        OK(di_output_patch(output, 2, 6, "12345", 5)); /* over the end of c into b */
        OK(di_output_patch(output, 0, 0, "xy", 2));
        const di_pair late = {(char *)(uintptr_t) "note", (char *)(uintptr_t) "2econ"},
                      longer = {late.key, (char *)(uintptr_t) "longer than that was"};
        assert_int_equal(distac_path_kind(path), way == 2 ? 2 : 0); /* of the way before */
        OK(di_output_metadata(output, 1, &late));
        OK(di_output_commit(output));
        const char *loaded = way ? in_root("folder/model.safetensors.index.json") : path;
        holds(loaded, "c", "cccccc12");
        holds(loaded, "b", "345bbbbb");
        holds(loaded, "a", "xyaaaaaa");
        holds(loaded, "d", "");
        distac_checkpoint *ck;
        OK(distac_checkpoint_open(context, loaded, &ck));
        assert_string_equal(distac_checkpoint_metadata(ck, "note"), "2econ");
        distac_checkpoint_release(ck);
        if (way) assert_int_equal(count_of(path), way == 1 ? 2 : 4); /* d, c with b, a, the index */
        OK(open_four(path, way > 0, 16, "first", order, &output));
        put_all(output, order);
        assert_int_equal(di_output_metadata(output, 1, &longer), DISTAC_EINVAL);
        di_output_abort(output);
        holds(loaded, "c", "cccccc12");
    }
}

static void what_is_there_stays_until_the_end(void **state) {
    (void)state;
    int64_t order[ITEMS];
    di_output *output;
    const char *path = in_root("stays");
    OK(open_four(path, true, 8, "first", order, &output));
    assert_int_equal(di_output_put(output, "12345678", 8), DISTAC_OK);
    assert_int_equal(di_output_commit(output), DISTAC_ESTATE); /* not all of it */
    assert_int_equal(distac_path_kind(path), 0);
    OK(open_four(path, true, 8, "first", order, &output));
    put_all(output, order);
    assert_int_equal(di_output_put(output, "x", 1), DISTAC_ESTATE);
    OK(di_output_commit(output));
    assert_int_equal(count_of(path), 4);
    int64_t here = count_of(root);
    OK(open_four(path, true, 0, "first", order, &output));
    put_all(output, order);
    assert_int_equal(count_of(path), 4);
    assert_int_equal(count_of(root), here + 1);
    OK(di_output_commit(output));
    assert_int_equal(count_of(path), 2);
    assert_int_equal(count_of(root), here);
    OK(distac_path_write(in_root("stays/notes.txt"), "mine", 4));
    assert_int_equal(open_four(path, true, 8, "first", order, &output), DISTAC_EIO);
    assert_non_null(strstr(distac_last_error(), "'notes.txt', which is no part of a model"));
    OK(distac_path_remove(in_root("stays/notes.txt")));
    /* It comes while the other is written. */
    OK(open_four(path, true, 8, "first", order, &output));
    put_all(output, order);
    OK(distac_path_write(in_root("stays/notes.txt"), "mine", 4));
    assert_int_equal(di_output_commit(output), DISTAC_EIO);
    assert_int_equal(count_of(path), 3);
    assert_int_equal(count_of(root), here);
    assert_int_equal(open_four(in_root("nowhere/x"), true, 8, "first", order, &output), DISTAC_EIO);
    assert_int_equal(open_four(in_root("stays/notes.txt"), true, 8, "first", order, &output), DISTAC_EIO);
}

static void make_left(const char *name, int seconds_old) {
    char file[300];
    OK(distac_path_make(in_root(name)));
    snprintf(file, sizeof file, "%s/model-00001-of-00002.safetensors", in_root(name));
    OK(distac_path_write(file, "half", 4));
    struct timeval times[2];
    gettimeofday(&times[0], NULL);
    times[0].tv_sec -= seconds_old;
    times[1] = times[0];
    assert_int_equal(utimes(in_root(name), times), 0);
}

static void what_killed_processes_left_goes(void **state) {
    (void)state;
    int64_t order[ITEMS];
    di_output *output;
    make_left(".other.1.0.distac-tmp", 60);   /* of another name, its writer long gone */
    make_left(".another.1.0.distac-tmp", 60); /* locked: somebody writes there */
    make_left(".young.1.0.distac-tmp", 0);    /* perhaps not locked yet */
    int fd = open(in_root(".another.1.0.distac-tmp"), O_RDONLY | O_DIRECTORY);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    OK(open_four(in_root("next"), false, 0, "first", order, &output));
    di_output_abort(output);
    assert_int_equal(distac_path_kind(in_root(".other.1.0.distac-tmp")), 0);
    assert_int_equal(distac_path_kind(in_root(".another.1.0.distac-tmp")), 2);
    assert_int_equal(distac_path_kind(in_root(".young.1.0.distac-tmp")), 2);
    close(fd);
}

static int set_up(void **state) {
    (void)state;
    return mkdtemp(root) && distac_context_create(NULL, &context) == DISTAC_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    char command[128];
    distac_context_release(context);
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_in_order),
        cmocka_unit_test(what_is_there_stays_until_the_end),
        cmocka_unit_test(what_killed_processes_left_goes),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
