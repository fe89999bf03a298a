/* test_files.c: files that appear when they are whole, leftovers, mapping, paths, links, hashes, the clock. */
#define _GNU_SOURCE 1
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

static char folder[] = "/tmp/distac-test-XXXXXX";

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static const char *in_folder(const char *name) {
    static char path[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static int remove_folder(void **state) {
    (void)state;
    distac_strings *names = NULL;
    if (distac_path_list(folder, &names)) return -1;
    for (int64_t i = 0; i < distac_strings_count(names); i++)
        distac_path_remove(in_folder(distac_strings_get(names, i)));
    distac_strings_release(names);
    return distac_path_remove(folder);
}

static int64_t entries(void) {
    distac_strings *names = NULL;
    assert_int_equal(distac_path_list(folder, &names), DISTAC_OK);
    int64_t count = distac_strings_count(names);
    distac_strings_release(names);
    return count;
}

static void expect_content(const char *path, const char *wanted) {
    di_map map;
    assert_int_equal(di_map_open(path, &map), DISTAC_OK);
    assert_int_equal(map.bytes, strlen(wanted));
    if (map.bytes) assert_memory_equal(map.data, wanted, map.bytes);
    di_map_close(&map);
}

static void a_file_appears_when_whole(void **state) {
    (void)state;
    const char *path = in_folder("model");
    di_writer *writer = NULL;
    assert_int_equal(distac_path_write(path, "old", 3), DISTAC_OK);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(di_writer_open(path, &writer), DISTAC_OK);
    char *piece = malloc(100000);
    memset(piece, 'n', 100000);
    for (int i = 0; i < 5; i++) assert_int_equal(di_writer_put(writer, piece, 20000 * (size_t)(i + 1)), DISTAC_OK);
    expect_content(path, "old");
    di_writer_abort(writer);
    expect_content(path, "old");
    assert_int_equal(entries(), 1);
    assert_int_equal(di_writer_open(path, &writer), DISTAC_OK);
    assert_int_equal(di_writer_put(writer, "new", 3), DISTAC_OK);
    assert_int_equal(di_writer_put(writer, piece, 70000), DISTAC_OK);
    assert_int_equal(di_writer_commit(writer), DISTAC_OK);
    assert_int_equal(distac_path_bytes(path), 70003);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
    assert_int_equal(entries(), 1);
    di_writer_abort(NULL);
    free(piece);
    assert_int_equal(distac_path_write(path, "", 0), DISTAC_OK);
    expect_content(path, "");
    assert_int_equal(distac_path_remove(path), DISTAC_OK);
    assert_int_equal(distac_path_remove(path), DISTAC_OK);
}

static void a_failed_write_leaves_the_old_file(void **state) {
    (void)state;
    const char *path = in_folder("limited");
    assert_int_equal(distac_path_write(path, "old", 3), DISTAC_OK);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) { /* a file may not grow beyond 1000 bytes here */
        struct rlimit limit = {1000, 1000};
        char big[5000] = {0};
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit)) _exit(2);
        distac_status status = distac_path_write(path, big, sizeof big);
        _exit(status == DISTAC_EIO && strstr(distac_last_error(), path) ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    expect_content(path, "old");
    assert_int_equal(entries(), 1);
    distac_path_remove(path);
}

static void leftovers_of_killed_writers_go(void **state) {
    (void)state;
    const char *path = in_folder("left");
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        di_writer *writer;
        if (di_writer_open(path, &writer)) _exit(1);
        kill(getpid(), SIGKILL);
    }
    int status = -1;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(entries(), 1);
    assert_int_equal(distac_path_kind(path), 0);
    di_writer *one = NULL, *two = NULL;
    assert_int_equal(di_writer_open(path, &one), DISTAC_OK);
    assert_int_equal(entries(), 1); /* the leftover is gone, the new temporary is there */
    assert_int_equal(di_writer_open(path, &two), DISTAC_OK);
    assert_int_equal(entries(), 2); /* a living writer's is not taken for one */
    assert_int_equal(di_writer_put(one, "1", 1), DISTAC_OK);
    assert_int_equal(di_writer_put(two, "2", 1), DISTAC_OK);
    assert_int_equal(di_writer_commit(two), DISTAC_OK);
    assert_int_equal(di_writer_commit(one), DISTAC_OK);
    expect_content(path, "1");
    assert_int_equal(entries(), 1);
    distac_path_remove(path);
}

static void only_regular_files_are_mapped(void **state) {
    (void)state;
    di_map map;
    const char *fifo = in_folder("fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    alarm(20); /* opening it must not wait for a writer */
    assert_int_equal(di_map_open(fifo, &map), DISTAC_EIO);
    assert_int_equal(distac_path_kind(fifo), 3);
    assert_int_equal(distac_path_write(fifo, "x", 1), DISTAC_EIO);
    alarm(0);
    assert_int_equal(di_map_open(folder, &map), DISTAC_EIO);
    assert_non_null(strstr(distac_last_error(), "folder"));
    assert_int_equal(di_map_open("/dev/zero", &map), DISTAC_EIO);
    assert_int_equal(di_map_open(in_folder("missing"), &map), DISTAC_EIO);
    assert_int_equal(distac_path_write(folder, "x", 1), DISTAC_EIO);
    assert_int_equal(distac_path_write(in_folder("no/such"), "x", 1), DISTAC_EIO);
    assert_int_equal(distac_path_write("", "x", 1), DISTAC_EIO);
    assert_int_equal(distac_path_remove(fifo), DISTAC_OK);
}

static void paths_are_made_listed_and_named(void **state) {
    (void)state;
    assert_int_equal(distac_path_make(in_folder("a/b//c/")), DISTAC_OK);
    assert_int_equal(distac_path_make(in_folder("a/b/c")), DISTAC_OK);
    assert_int_equal(distac_path_kind(in_folder("a/b/c")), 2);
    assert_int_equal(distac_path_write(in_folder("a/z"), "1", 1), DISTAC_OK);
    assert_int_equal(distac_path_make(in_folder("a/z/y")), DISTAC_EIO);
    assert_int_equal(distac_path_make(""), DISTAC_EIO);
    if (distac_path_kind("/sys") == 2) { /* a folder that takes no other, not one that is not there */
        assert_int_equal(distac_path_make("/sys/distac-test"), DISTAC_EIO);
        assert_null(strstr(distac_last_error(), strerror(ENOENT)));
    }
    assert_int_equal(distac_path_write(in_folder("a/B"), "1", 1), DISTAC_OK);
    distac_strings *names = NULL;
    assert_int_equal(distac_path_list(in_folder("a"), &names), DISTAC_OK);
    assert_int_equal(distac_strings_count(names), 3);
    assert_string_equal(distac_strings_get(names, 0), "B");
    assert_string_equal(distac_strings_get(names, 1), "b");
    assert_string_equal(distac_strings_get(names, 2), "z");
    assert_null(distac_strings_get(names, 3));
    assert_null(distac_strings_get(names, -1));
    distac_strings_release(names);
    assert_int_equal(distac_path_list(in_folder("a/z"), &names), DISTAC_EIO);
    assert_int_equal(distac_path_remove(in_folder("a")), DISTAC_EIO); /* not empty */
    assert_int_equal(distac_path_absolute(in_folder("a/../new"), &names), DISTAC_OK);
    assert_string_equal(distac_strings_get(names, 0), in_folder("new"));
    distac_strings_release(names);
    static const char *const gone[] = {"a/b/c", "a/b", "a/z", "a/B", "a"};
    for (int i = 0; i < 5; i++) assert_int_equal(distac_path_remove(in_folder(gone[i])), DISTAC_OK);
}

static void a_link_stays_and_its_target_is_replaced(void **state) {
    (void)state;
    const char *real = in_folder("real"), *link = in_folder("link");
    assert_int_equal(distac_path_write(real, "old", 3), DISTAC_OK);
    assert_int_equal(symlink("real", link), 0);
    assert_int_equal(distac_path_write(link, "new", 3), DISTAC_OK);
    struct stat info;
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    expect_content(real, "new");
    assert_int_equal(distac_path_remove(link), DISTAC_OK);
    assert_int_equal(distac_path_kind(real), 1);
    assert_int_equal(distac_path_remove(real), DISTAC_OK);
}

static void hashes_are_sha256(void **state) {
    (void)state;
    distac_strings *hex = NULL;
    assert_int_equal(distac_hash_text("abc", 3, &hex), DISTAC_OK);
    assert_string_equal(distac_strings_get(hex, 0),
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    distac_strings_release(hex);
    assert_int_equal(distac_hash_text("", 0, &hex), DISTAC_OK);
    assert_string_equal(distac_strings_get(hex, 0),
                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    distac_strings_release(hex);
    assert_int_equal(distac_path_write(in_folder("h"), "abc", 3), DISTAC_OK);
    assert_int_equal(distac_hash_file(in_folder("h"), &hex), DISTAC_OK);
    assert_string_equal(distac_strings_get(hex, 0),
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    distac_strings_release(hex);
    assert_int_equal(distac_hash_file(folder, &hex), DISTAC_EIO);
    assert_int_equal(distac_hash_text("abc", -1, &hex), DISTAC_EINVAL);
    distac_path_remove(in_folder("h"));
    double before = distac_clock();
    usleep(2000);
    assert_true(distac_clock() - before >= 0.002);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_appears_when_whole),
        cmocka_unit_test(a_failed_write_leaves_the_old_file),
        cmocka_unit_test(leftovers_of_killed_writers_go),
        cmocka_unit_test(only_regular_files_are_mapped),
        cmocka_unit_test(paths_are_made_listed_and_named),
        cmocka_unit_test(a_link_stays_and_its_target_is_replaced),
        cmocka_unit_test(hashes_are_sha256),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
