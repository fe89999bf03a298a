/* test_host_script.c: what a host has set stays as it is, and does not change results: its locale, its
 * floating-point mode, its signal handlers, its streams, its umask. */
#define _GNU_SOURCE 1 /* feenableexcept */

#include "check.h"
#include "distac_script.h"
#include <fcntl.h>
#include <fenv.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static char folder[64];

static const char *in_folder(char out[128], const char *name) {
    snprintf(out, 128, "%s/%s", folder, name);
    return out;
}

/* A picture, a model, a step of distillation, two merges to files, a script; `digest` is of all that came out. */
static void job(char digest[65]) {
    static const distac_vit_config config = {.image = 8, .patch = 4, .channels = 3, .width = 16, .layers = 2,
                                             .heads = 2, .mlp = 32, .dim = 8, .activation = DISTAC_ACT_QUICK_GELU};
    static const distac_adamw_desc adamw = {.lr = 1e-3, .clip = 1};
    static const distac_kd_desc distil = {.t_teacher = 1, .t_student = 10, .beta = 0.5};
    char path[128], all[512] = "";
    distac_context *context;
    distac_image *image, *fitted;
    distac_tensor *pixels, *batch, *weight, *params;
    distac_vit *vit, *teacher;
    distac_head *head;
    distac_optimizer *optimizer;
    distac_kd *kd;
    distac_step_stats stats;
    distac_checkpoint *base, *models[2];
    OK(distac_context_create(&(distac_context_desc){.threads = 4}, &context));
    OK(distac_image_load(context, "spec/golden/images/base_420.jpg", 3, &image));
    OK(distac_image_fit(image, 8, &fitted));
    OK(distac_image_tensor(fitted, 3, (double[]){0.5, 0.4, 0.3}, 3, (double[]){0.25, 0.25, 0.25}, &pixels));
    OK(distac_tensor_reshape(pixels, 4, (int64_t[]){1, 3, 8, 8}, &batch));
    OK(distac_vit_create(context, &config, DISTAC_F32, &vit));
    OK(distac_vit_init(vit, 1));
    OK(distac_vit_clone(vit, &teacher));
    OK(distac_vit_checkpoint(vit, 1, &base));
    OK(distac_vit_init(teacher, 2));
    OK(distac_tensor_create(context, DISTAC_F32, 2, (int64_t[]){5, 8}, &weight));
    OK(distac_tensor_random(weight, 0, 3, 0));
    OK(distac_head_create(weight, 1, &head));
    OK(distac_vit_params(vit, &params));
    OK(distac_adamw_create(context, &adamw, distac_tensor_numel(params), DISTAC_F32, &optimizer));
    OK(distac_kd_create(vit, teacher, head, optimizer, &distil, &kd));
    OK(distac_kd_step(kd, batch, NULL, -1, &stats));
    OK(distac_vit_checkpoint(vit, 1, &models[0]));
    OK(distac_vit_checkpoint(teacher, 1, &models[1]));
    const char *const methods[] = {"ties", "tsvm"};
    for (size_t i = 0; i < 2; i++) {
        distac_merge *merge;
        distac_strings *hash;
        OK(distac_merge_create(context, methods[i], &merge));
        OK(distac_merge_files(merge, base, 2, models, in_folder(path, "merged.safetensors"), -1, NULL));
        OK(distac_hash_file(path, &hash));
        strcat(all, distac_strings_get(hash, 0));
        distac_strings_release(hash);
        distac_merge_release(merge);
    }
    snprintf(all + strlen(all), 64, " %a %a", stats.loss, stats.entropy);

    /* numbers as text, there and back, and charts, which draw text */
    static const char text[] =
        "local distac = require 'distac'\n"
        "local back = distac.json.decode '{\"x\": 0.25, \"y\": [1.5e-3]}'\n"
        "distac.save(path, { t = distac.tensor { 0.5, 1.25 } }, { metadata = { scale = '0.5' } })\n"
        "return { back.x + back.y[1], distac.load(path).t:sum():item(), 0.1, tonumber '2.5' }";
    distac_script *script;
    const char *json = NULL;
    if (distac_script_open(NULL, &script)) fail_msg("%s", distac_script_error(NULL));
    assert_int_equal(distac_script_set_string(script, "path", in_folder(path, "t.safetensors")), DISTAC_OK);
    if (distac_script_run_string(script, text, (int64_t)strlen(text), "=job") ||
        distac_script_result(script, &json))
        fail_msg("%s", distac_script_error(script));
    strcat(all, json);
    distac_script_close(script);

    distac_strings *hash;
    OK(distac_hash_text(all, (int64_t)strlen(all), &hash));
    strcpy(digest, distac_strings_get(hash, 0));
    distac_strings_release(hash);
    distac_kd_release(kd), distac_optimizer_release(optimizer), distac_tensor_release(params);
    distac_head_release(head), distac_tensor_release(weight);
    distac_checkpoint_release(models[1]), distac_checkpoint_release(models[0]), distac_checkpoint_release(base);
    distac_vit_release(teacher), distac_vit_release(vit);
    distac_tensor_release(batch), distac_tensor_release(pixels);
    distac_image_release(fitted), distac_image_release(image), distac_context_release(context);
}

static char usual[65]; /* the digest in a process as it starts */

static int setup(void **state) {
    (void)state;
    strcpy(folder, "/tmp/distac_host_XXXXXX");
    if (!mkdtemp(folder)) return -1;
    job(usual);
    return strlen(usual) == 64 ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void locale(void **state) {
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "ru_RU.UTF-8", "pt_BR.UTF-8", "it_IT.UTF-8"};
    const char *set = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !set; i++) set = setlocale(LC_ALL, names[i]);
    if (!set) skip(); /* no locale with a decimal comma is installed */
    char digest[65], text[16];
    job(digest);
    snprintf(text, sizeof text, "%.1f", 0.5);
    setlocale(LC_ALL, "C");
    assert_string_equal(text, "0,5");
    assert_string_equal(digest, usual);
}

static void rounding(void **state) {
    (void)state;
    char digest[65];
    assert_int_equal(fesetround(FE_UPWARD), 0);
    job(digest); /* other numbers, by the host's wish */
    int now = fegetround();
    fesetround(FE_TONEAREST);
    assert_int_equal(now, FE_UPWARD);
    job(digest);
    assert_string_equal(digest, usual);
}

static void denormals(void **state) {
    (void)state;
#if defined(__x86_64__)
    char digest[65];
    const unsigned mode = _mm_getcsr() & ~0x3fU; /* without the flags of what has happened */
    job(digest);
    assert_int_equal(_mm_getcsr() & ~0x3fU, mode);
    _mm_setcsr(mode | 0x8040); /* flush to zero, denormals are zero: as hosts of audio have it */
    job(digest);
    const unsigned now = _mm_getcsr() & ~0x3fU;
    _mm_setcsr(mode);
    assert_int_equal(now, mode | 0x8040);
#else
    skip();
#endif
}

static volatile sig_atomic_t ticks;
static void tick(int number) {
    (void)number;
    ticks++;
}

/* Handlers, mask and a storm of signals that interrupt every system call. */
static void signals(void **state) {
    (void)state;
    char digest[65];
    sigset_t mask, mask_now;
    struct sigaction before[32], after;
    struct sigaction own = {.sa_handler = tick}; /* no SA_RESTART */
    sigaction(SIGALRM, &own, NULL);
    sigaction(SIGPIPE, &own, NULL);
    sigaction(SIGFPE, &own, NULL);
    sigaction(SIGINT, &own, NULL);
    for (int i = 1; i < 32; i++) sigaction(i, NULL, &before[i]);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    const struct itimerval storm = {.it_interval = {.tv_usec = 500}, .it_value = {.tv_usec = 500}};
    const struct itimerval none = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &storm, NULL);
    for (int i = 0; i < 5; i++) job(digest);
    setitimer(ITIMER_REAL, &none, NULL);
    assert_true(ticks > 0);
    assert_string_equal(digest, usual);
    for (int i = 1; i < 32; i++) {
        sigaction(i, NULL, &after);
        if (after.sa_handler != before[i].sa_handler) fail_msg("the handler of signal %d has changed", i);
    }
    pthread_sigmask(SIG_SETMASK, NULL, &mask_now);
    assert_memory_equal(&mask, &mask_now, sizeof(int64_t)); /* of 64 signals */
    own.sa_handler = SIG_DFL;
    sigaction(SIGALRM, &own, NULL), sigaction(SIGPIPE, &own, NULL);
    sigaction(SIGFPE, &own, NULL), sigaction(SIGINT, &own, NULL);
}

/* Nothing is written to the host's streams, files get the host's umask, no descriptor stays open. */
static void streams(void **state) {
    (void)state;
    char path[128], digest[65];
    struct stat info;
    fflush(NULL);
    int saved[2] = {dup(1), dup(2)};
    int file = open(in_folder(path, "streams"), O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(file > 2 && saved[0] > 2 && saved[1] > 2);
    dup2(file, 1), dup2(file, 2);
    const mode_t old = umask(027);
    const int next_before = dup(0);
    close(next_before);
    unlink(in_folder(path, "merged.safetensors")); /* what is replaced keeps the mode that it had */
    job(digest);
    const int next_after = dup(0);
    close(next_after);
    const mode_t mask = umask(old);
    fflush(NULL);
    dup2(saved[0], 1), dup2(saved[1], 2);
    close(saved[0]), close(saved[1]);
    const off_t written = lseek(file, 0, SEEK_END);
    close(file);
    assert_int_equal(written, 0);
    assert_int_equal(mask, 027);
    assert_int_equal(next_after, next_before);
    assert_int_equal(stat(in_folder(path, "merged.safetensors"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
}

/* A host that has no descriptor left hears so, and not that a module is not there. */
static void descriptors(void **state) {
    (void)state;
    static const char text[] = "return require('distac.suites') ~= nil";
    distac_script *script;
    struct rlimit old, none;
    int lowest = dup(0);
    assert_true(lowest >= 0);
    close(lowest);
    assert_int_equal(distac_script_open(NULL, &script), DISTAC_OK);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = (rlim_t)lowest;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    distac_status status = distac_script_run_string(script, text, sizeof text - 1, "=job");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(status, DISTAC_EINVAL);
    assert_non_null(strstr(distac_script_error(script), "suites.lua: Too many open files"));
    assert_int_equal(distac_script_run_string(script, text, sizeof text - 1, "=job"), DISTAC_OK);
    distac_script_close(script);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(locale), cmocka_unit_test(rounding),
                                       cmocka_unit_test(denormals), cmocka_unit_test(signals),
                                       cmocka_unit_test(streams),   cmocka_unit_test(descriptors)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
