/* test_cancel_script.c: every long call ends soon after a cancel from another thread. Each piece of work goes on
 * for ever; what is counted is the processor time of the process from the cancel to the end of the run, which a
 * busy machine does not lengthen. DISTAC_CANCEL=N cancels each N times at other places, and prints the longest. */
#include "script_job.h"

#include <pthread.h>
#include <time.h>

enum { THREADS = 2 };
static const double allowed = 0.5 * THREADS; /* seconds */

static double used(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static const char prelude[] =
    "distac = require 'distac'\n"
    "raw = require 'distac.raw'\n"
    "model = distac.vit { image = 32, patch = 4, channels = 3, width = 256, layers = 6, "
    "heads = 4, dim = 64, activation = 'gelu', seed = 1 }\n"
    "teacher = model:clone()\n"
    "head = distac.head(distac.randn({ 10, 64 }, { seed = 3 }))\n"
    "images = distac.randn({ 512, 3, 32, 32 }, { seed = 4 })\n"
    "labels = distac.zeros({ 512 }, { dtype = 'i32' })\n"
    "few = (255 * distac.rand({ 64, 3, 32, 32 }, { seed = 4 })):to 'u8'\n"
    "data = distac.dataset.tensors(few, labels:narrow(1, 1, 64), 10)\n"
    "local function wide(seed)\n"
    "    return distac.checkpoint { a = distac.randn({ 1024, 1024 }, { seed = seed }), "
    "b = distac.randn({ 1536, 1024 }, { seed = seed + 50 }) }\n"
    "end\n"
    "base, models, taus = wide(1), {}, {}\n"
    "for i = 1, 4 do models[i] = wide(1 + i) taus[i] = distac.taskvector(models[i], base) end\n"
    "big = distac.checkpoint { a = distac.full({ 48, 1024, 512 }, 0.25) }\n"
    "trained = model:checkpoint()\n"
    "others = {}\n"
    "for i = 1, 2 do\n"
    "    local m = distac.vit { image = 32, patch = 4, channels = 3, width = 256, layers = 6, "
    "heads = 4, dim = 64, activation = 'gelu', seed = 1 + i }\n"
    "    others[i] = distac.taskvector(m:checkpoint(), trained)\n"
    "end\n"
    "input = { model = model, data = { { dataset = data, head = head }, { dataset = data, head = head } } }\n"
    "square = distac.randn({ 512, 512 }, { seed = 1 })\n"
    "text = string.rep('a photo of a very small animal, ', 20000)\n"
    "pictures = distac.dataset.folder('ROOT/many', { size = 224, channels = 3 })\n";

static const struct {
    const char *name, *run; /* run: again and again */
} works[] = {
    {"features", "model:features(images)"},
    {"fine-tuning", "local s = distac.finetune_step { model = model, head = head, "
                    "optimizer = distac.adamw { lr = 1e-3 } } s(images, labels)"},
    {"distillation", "local s = distac.kd_step { student = model, teacher = teacher, head = head, "
                     "optimizer = distac.adamw { lr = 1e-3 } } s(images)"},
    {"evaluation", "require('distac.doctor').confidence(data, model, head, 64)"},
    {"saving", "distac.save('ROOT/big.safetensors', big)"},
    {"saving as bf16", "distac.save('ROOT/big.safetensors', big, { dtype = 'bf16' })"},
    {"fingerprint", "raw.checkpoint_fingerprint(big)"},
    {"converting", "distac.save('ROOT/hf.safetensors', trained:convert 'hf')"},
    {"norms", "raw.checkpoint_norm(big)"},
    {"doctor", "require('distac.doctor').examine(base, models, { 'a', 'b', 'c', 'd' })"},
    {"pictures", "for b in distac.loader(pictures, { batch = 64, seed = 1 }):batches(4) do end"},
    {"cache of pictures", "packs = (packs or 0) + 1 pictures:cache('ROOT/packs' .. packs)"},
    {"tokenizer", "vocabulary = vocabulary or "
                  "distac.tokenizer 'spec/golden/bpe/vocab.json' vocabulary:encode(text)"},
    {"product", "distac.matmul(distac.randn({ 2048, 2048 }, { seed = 1 }), "
                "distac.randn({ 2048, 2048 }, { seed = 2 }))"},
    {"singular values", "square:svd()"}, /* one call of LAPACK goes to its end, for 512x512 within this */
    {"eigenvalues", "(square + square:transpose(1, 2)):eigh()"},
    {"random numbers", "distac.randn({ 4096, 4096 }, { seed = 1 })"},
    {"arithmetic", "big2 = distac.taskvector(big, big)"},
    {"elements", "big:tensor('a'):exp():sum()"},
    {"fisher", "distac.merge.fisher { samples = 64 } (trained, others, input)"},
    {"regmean", "distac.merge.regmean {} (trained, others, input)"},
    {"adamerging", "distac.merge.adamerging {} (trained, others, input)"},
};

static void *cancel_later(void *script) {
    const double start = used(), pause = 0.05;
    while (used() - start < pause) usleep(1000);
    double *at = malloc(sizeof *at);
    *at = used();
    distac_script_cancel(script);
    return at;
}

/* Seconds that a cancel of this work took. */
static double cancelled(distac_script *script, const char *name, const char *text) {
    char *body = with_root(text), run[2000];
    snprintf(run, sizeof run, "while true do %s end", body);
    free(body);
    pthread_t thread;
    void *at;
    assert_int_equal(pthread_create(&thread, NULL, cancel_later, script), 0);
    distac_status status = distac_script_run_string(script, run, (int64_t)strlen(run), "=work");
    double end = used();
    pthread_join(thread, &at);
    double seconds = end - *(double *)at;
    free(at);
    if (status != DISTAC_ECANCELED) {
        print_message("%s: %s: %s\n", name, distac_status_name(status), distac_script_error(script));
        distac_script_run_string(script, "", 0, "=nothing"); /* the cancel came too late */
        return -1;
    }
    return seconds;
}

static int bad;
static double longest;

static void one(distac_script *script, const char *name, const char *text) {
    const char *often = getenv("DISTAC_CANCEL");
    double most = 0;
    for (int i = 0; i < (often ? atoi(often) : 1); i++) {
        double seconds = cancelled(script, name, text);
        if (seconds < 0) {
            bad++;
            return;
        }
        if (seconds > most) most = seconds;
    }
    if (most > longest) longest = most;
    if (often || most > allowed) {
        printf("  %-24s %.3f s\n", name, most);
        fflush(stdout);
    }
    if (most > allowed) bad++;
}

static void every_long_call(void **state) {
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* times mean nothing then */
#endif
    const distac_context_desc engine = {.threads = THREADS, .seed = 1};
    const distac_script_desc desc = {.engine = &engine};
    distac_script *script = NULL;
    char *text = with_root(prelude);
    OK(distac_script_open(&desc, &script));
    if (distac_script_run_string(script, text, (int64_t)strlen(text), "=prelude") != DISTAC_OK)
        fail_msg("%s", distac_script_error(script));
    free(text);
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++) one(script, works[i].name, works[i].run);
    for (int32_t i = 0; i < distac_merge_method_count(); i++) {
        char run[400];
        const char *name = distac_merge_method_name(i);
        snprintf(run, sizeof run,
                 "local op = distac.merge['%s'] {} local ok, why = pcall(op, base, taus) "
                 "if not ok and tostring(why):find 'takes 2' then op(base, { taus[1], taus[2] }) "
                 "elseif not ok then error(why, 0) end", name);
        one(script, name, run);
    }
    one(script, "merge of files", "distac.merge.ties {}:files(base, models, 'ROOT/merged.safetensors')");
    distac_script_close(script);
    printf("  the longest: %.3f s of %.1f\n", longest, allowed);
    assert_int_equal(bad, 0);
}

static int setup_cancel(void **state) {
    char command[600];
    if (setup(state) != 0) return -1;
    snprintf(command, sizeof command,
             "cd %s && mkdir -p many/a many/b && "
             "for i in $(seq 60); do cp data/b/1.jpg many/a/$i.jpg; cp data/b/2.jpg many/b/$i.jpg; done",
             root);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_long_call)};
    return cmocka_run_group_tests(tests, setup_cancel, teardown);
}
