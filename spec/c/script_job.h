/* script_job.h: a small whole job in Lua for hosts: a recipe is loaded, two steps of fine-tuning, a merge. */
#ifndef SCRIPT_JOB_H
#define SCRIPT_JOB_H

#include "distac_script.h"

#include "fault_job.h"

static const char recipe[] =
    "local distac = require 'distac'\n"
    "return distac.recipe {\n"
    "    name = 'tiny',\n"
    "    suite = distac.folder_suite { root = 'ROOT/suite', model = 'ROOT/base.safetensors', scale = 20 },\n"
    "    finetune = { steps = 2, batch = 2, lr = 1e-3, "
    "loss = distac.loss.cross_entropy { label_smoothing = 0.1 } },\n"
    "    condition = { kappa = 1, temperature = { teacher = 1, student = 10 }, "
    "beta = 0.5, steps = 2, batch = 2 },\n"
    "    merge = { 'task_arithmetic', 'ties' }, lambda = distac.grid(0, 1, 0.5),\n"
    "}\n";

UNUSED static const char job[] =
    "local distac = require 'distac'\n"
    "local recipe = dofile('ROOT/recipe.lua')\n"
    "assert(#recipe.suite.tasks == 2)\n"
    "local base = distac.load 'ROOT/base.safetensors'\n"
    "local model = distac.vit(base)\n"
    "local head = distac.head(distac.randn({ 2, 8 }, { seed = 3 }))\n"
    "local data = distac.dataset.folder('ROOT/data', { size = 8, channels = 3 })\n"
    "local loader = distac.loader(data, { batch = 2, seed = 1 })\n"
    "local step = distac.finetune_step { model = model, head = head, optimizer = distac.adamw { lr = 1e-3 } }\n"
    "for batch in loader:batches(2) do step(batch.images, batch.labels) end\n"
    "local models = { distac.load 'ROOT/m1.safetensors', distac.load 'ROOT/m2.safetensors' }\n"
    "distac.merge.ties {}:files(base, models, 'ROOT/merged.safetensors')\n"
    "return { hash = distac.hash.file 'ROOT/merged.safetensors', norm = tostring(model:params():norm()) }\n";

static char *with_root(const char *text) {
    size_t room = strlen(text) + 1;
    for (const char *at = text; (at = strstr(at, "ROOT")); at += 4) room += strlen(root);
    char *out = calloc(1, room), *end = out;
    while (*text) {
        if (strncmp(text, "ROOT", 4) == 0) {
            end += sprintf(end, "%s", root);
            text += 4;
        } else {
            *end++ = *text++;
        }
    }
    return out;
}

/* Opens a script, runs the text, takes its result, closes. */
UNUSED static distac_status script_run(const distac_script_desc *desc, const char *run, char *digest,
                                       char text[512]) {
    distac_script *script = NULL;
    const char *json = NULL;
    distac_status status = distac_script_open(desc, &script);
    if (status == DISTAC_OK) status = distac_script_run_string(script, run, (int64_t)strlen(run), "=job");
    if (status == DISTAC_OK) status = distac_script_result(script, &json);
    if (status == DISTAC_OK) {
        distac_strings *hash = NULL;
        status = distac_hash_text(json, (int64_t)strlen(json), &hash);
        if (status == DISTAC_OK) snprintf(digest, 65, "%s", distac_strings_get(hash, 0));
        if (status != DISTAC_OK) snprintf(text, 512, "%s", distac_last_error());
        distac_strings_release(hash);
    } else {
        snprintf(text, 512, "%s", distac_script_error(script));
    }
    distac_script_close(script);
    return status;
}

UNUSED static distac_status whole_life(void *arg, char *digest, char text[512]) {
    const distac_context_desc engine = {.threads = 2, .seed = 1};
    const distac_script_desc desc = {.engine = &engine};
    return script_run(&desc, arg, digest, text);
}

UNUSED static int setup_script(void **state) {
    char command[400], path[256];
    if (setup(state) != 0) return -1;
    snprintf(command, sizeof command,
             "cd %s && for t in one two; do for s in train validation test; do "
             "mkdir -p suite/$t/$s && cp -r data/a data/b suite/$t/$s; done; done",
             root);
    if (system(command) != 0) return -1;
    char *text = with_root(recipe);
    FILE *file = fopen(in_root(path, "recipe.lua"), "w");
    if (!file) return -1;
    fputs(text, file);
    free(text);
    return fclose(file);
}

#endif
