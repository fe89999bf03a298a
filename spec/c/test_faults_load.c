/* test_faults_load.c: libraries that are loaded when they are first needed cannot be: the chart library, the CUDA
 * backend, the matrix library. The caller is told, the rest of the engine goes on, and the next try succeeds. */
#include "fault_job.h"

#include <errno.h>
#include <sys/wait.h>

static distac_status draw(void *arg, char *digest, char text[512]) {
    (void)arg;
    char path[256];
    distac_status status;
    distac_context *context = NULL;
    distac_plot *plot = NULL;
    const distac_plot_desc desc = {.title = "loss", .width = 200, .height = 160};
    const double x[3] = {0, 1, 2}, y[3] = {3, 1, 2};
    STEP(distac_context_create(NULL, &context));
    STEP(distac_plot_create(context, &desc, &plot));
    STEP(distac_plot_line(plot, "a", 3, x, 3, y, 0, NULL, 0));
    STEP(distac_plot_save(plot, in_root(path, "plot.png")));
    STEP(digest_file(path, digest));
out:
    keep_text(status, text);
    distac_plot_release(plot);
    distac_context_release(context);
    return status;
}

static void charts(void **state) {
    if (setup(state) != 0) fail_msg("no folder"); /* opens a context, which must not be there before */
    char digest[65], text[512] = "";
    if (draw(NULL, digest, text) == DISTAC_EUNSUPPORTED && strstr(text, "charts are drawn with")) {
        print_message("skipped: %s\n", text);
        teardown(state);
        skip();
    }
    swept((work){.name = "library of charts", .run = draw, .folder = root, .kinds = FAULT_LOAD,
                 .expected = DISTAC_EUNSUPPORTED}, 0);
    assert_int_equal(teardown(state), 0);
}

/* What a context on "cuda" came to: "there is one", or why not. */
static distac_status ask(char text[512]) {
    distac_context *context = NULL;
    const distac_context_desc desc = {.device = "cuda"};
    distac_status status = distac_context_create(&desc, &context);
    snprintf(text, 512, "%s", status == DISTAC_OK ? "there is one" : distac_last_error());
    distac_context_release(context);
    return status;
}

/* The backend is looked for while loading fails, and again when it does not. In a process of its own, as what is
 * loaded stays. Its exit code tells what was wrong. */
static int look_again(const char *wanted, int32_t devices) {
    char text[512];
    distac_context *context = NULL;
    faults_begin(FAULT_LOAD, 1, true, 0);
    int32_t few = distac_device_count();
    distac_status status = ask(text), cpu = distac_context_create(NULL, &context);
    int64_t failed;
    faults_end(&failed);
    distac_context_release(context);
    if (few != 1 || cpu != DISTAC_OK) return 2;
    if (failed == 0) return strcmp(text, wanted) == 0 ? 0 : 3; /* there is no module to load */
    if (status != DISTAC_EDEVICE || !strstr(text, "the CUDA backend cannot be loaded: ")) return 4;
    ask(text);
    if (strcmp(text, wanted) != 0) return 5;
    return distac_device_count() == devices ? 0 : 6;
}

static void cuda_backend(void **state) {
    (void)state;
    struct {
        char text[512];
        int32_t devices;
    } wanted = {.devices = 0};
    int pipes[2], status;
    fflush(stdout);
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    if (pid == 0) { /* without failures, out of this process: what is loaded here would be there below */
        ask(wanted.text);
        wanted.devices = distac_device_count();
        _exit(write(pipes[1], &wanted, sizeof wanted) != (ssize_t)sizeof wanted);
    }
    assert_int_equal(read(pipes[0], &wanted, sizeof wanted), sizeof wanted);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(pipes[0]);
    close(pipes[1]);
    pid = fork();
    if (pid == 0) _exit(look_again(wanted.text, wanted.devices));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (status != 0) fail_msg("status 0x%x; without failures it is: %s", (unsigned)status, wanted.text);
}

/* OpenBLAS and LAPACK are loaded with the first context: that of a process of its own. */
static int first_context(int failing, bool onward) {
    distac_context *context = NULL;
    int64_t failed;
    faults_begin(FAULT_LOAD, failing, onward, 0);
    distac_status status = distac_context_create(NULL, &context);
    faults_end(&failed);
    if (failed == 0) return status == DISTAC_OK ? 1 : 2;
    if (status != DISTAC_EUNSUPPORTED || context || !strstr(distac_last_error(), "the matrix library: ")) return 3;
    if (distac_context_create(NULL, &context) != DISTAC_OK) return 4;
    distac_context_release(context);
    return 0;
}

static void matrix_library(void **state) {
    (void)state;
    fflush(stdout);
    for (int failing = 1; failing <= 3; failing++)
        for (int onward = 0; onward < 2; onward++) {
            int status;
            pid_t pid = fork();
            if (pid == 0) _exit(first_context(failing, onward == 1));
            assert_int_equal(waitpid(pid, &status, 0), pid);
            if (status != (failing == 3 ? 0x100 : 0)) fail_msg("load %d: status 0x%x", failing, (unsigned)status);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matrix_library),
        cmocka_unit_test(charts),
        cmocka_unit_test(cuda_backend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
