/* vit_checkpoint.c: an encoder from a checkpoint and back: the architecture read from tensor shapes, and weights
 * copied only when every one of them fits. */
#include "nn.h"
#include <stdlib.h>
#include <string.h>

#define PREFIX "visual."
#define BLOCK_PREFIX PREFIX "transformer.resblocks."

/* ---- reading the architecture ---- */

/* [view] The named tensor with this rank. A tensor that is not there or has another rank is an error. */
static distac_status find(const distac_checkpoint *ck, const char *name, int32_t rank, distac_tensor **out) {
    int64_t index = distac_checkpoint_find(ck, name);
    if (index < 0)
        return di_fail_at(DISTAC_ENOTFOUND, "distac_vit_open",
                          "the checkpoint has no tensor \"%s\", so it is no image encoder in the CLIP layout",
                          name);
    DI_TRY(distac_checkpoint_tensor(ck, index, out));
    if ((*out)->rank == rank) return DISTAC_OK;
    char text[160];
    distac_status status =
        di_fail_at(DISTAC_ESHAPE, "distac_vit_open", "\"%s\" has shape %s, wanted %d dimensions", name,
                   di_shape_text((*out)->rank, (*out)->shape, text, sizeof text), (int)rank);
    distac_tensor_release(*out);
    *out = NULL;
    return status;
}

static distac_status shape_of(const distac_checkpoint *ck, const char *name, int32_t rank, int64_t *shape) {
    distac_tensor *t = NULL;
    DI_TRY(find(ck, name, rank, &t));
    for (int32_t d = 0; d < rank; d++) shape[d] = t->shape[d];
    distac_tensor_release(t);
    for (int32_t d = 0; d < rank; d++)
        if (shape[d] < 1 || shape[d] > INT32_MAX)
            return di_fail_at(DISTAC_ESHAPE, "distac_vit_open", "\"%s\" has a dimension of %lld", name,
                              (long long)shape[d]);
    return DISTAC_OK;
}

static int32_t count_layers(const distac_checkpoint *ck) {
    int64_t layers = 0;
    for (int64_t i = 0; i < distac_checkpoint_count(ck); i++) {
        const char *name = distac_checkpoint_name(ck, i);
        if (strncmp(name, BLOCK_PREFIX, sizeof BLOCK_PREFIX - 1) != 0) continue;
        char *end;
        long long layer = strtoll(name + sizeof BLOCK_PREFIX - 1, &end, 10);
        if (*end == '.' && layer >= layers && layer < INT32_MAX) layers = layer + 1;
    }
    return (int32_t)layers;
}

static distac_status read_heads(const distac_checkpoint *ck, int32_t asked, int32_t width, int32_t *out) {
    const char *text = asked > 0 ? NULL : distac_checkpoint_metadata(ck, "vit.heads");
    if (asked > 0) {
        *out = asked;
    } else if (text) {
        char *end;
        long value = strtol(text, &end, 10);
        if (end == text || *end != '\0' || value < 1 || value > width)
            return di_fail_at(DISTAC_EINVAL, "distac_vit_open", "metadata vit.heads is \"%s\", wanted 1 to %d",
                              text, (int)width);
        *out = (int32_t)value;
    } else if (width % 64 == 0) {
        *out = width / 64;
    } else {
        return di_fail_at(DISTAC_EINVAL, "distac_vit_open",
                          "heads is not given, the metadata has no vit.heads, and width %d is no multiple of 64",
                          (int)width);
    }
    return DISTAC_OK;
}

static distac_status read_activation(const distac_checkpoint *ck, int32_t asked, int32_t *out) {
    const char *text = asked >= 0 ? NULL : distac_checkpoint_metadata(ck, "vit.activation");
    if (asked >= 0) *out = asked;
    else if (text && strcmp(text, "gelu") == 0) *out = DISTAC_ACT_GELU;
    else if (text && strcmp(text, "quick_gelu") == 0) *out = DISTAC_ACT_QUICK_GELU;
    else if (text)
        return di_fail_at(DISTAC_EINVAL, "distac_vit_open",
                          "metadata vit.activation is \"%s\", wanted \"gelu\" or \"quick_gelu\"", text);
    else
        return di_fail_at(
            DISTAC_EINVAL, "distac_vit_open",
            "activation is not given and the metadata has no vit.activation: tensors do not tell it. Give it with "
            "activation = (--activation), or open the folder whose config.json says it. OpenAI's weights want "
            "\"quick_gelu\", most others \"gelu\"");
    return DISTAC_OK;
}

static distac_status read_config(const distac_checkpoint *ck, int32_t activation, int32_t heads,
                                 distac_vit_config *out) {
    int64_t conv[4], position[2], proj[2], fc[2];
    DI_TRY(shape_of(ck, PREFIX "conv1.weight", 4, conv));
    DI_TRY(shape_of(ck, PREFIX "positional_embedding", 2, position));
    if (distac_checkpoint_find(ck, PREFIX "proj") < 0)
        return di_fail_at(DISTAC_ENOTFOUND, "distac_vit_open",
                          "the checkpoint has no projection (\"visual.proj\", \"visual_projection.weight\" in "
                          "transformers' naming): image towers published without it are used with their base's, "
                          "load(PATH, { missing = BASE }) in Lua");
    DI_TRY(shape_of(ck, PREFIX "proj", 2, proj));
    DI_TRY(shape_of(ck, BLOCK_PREFIX "0.mlp.c_fc.weight", 2, fc));
    int64_t grid = 1;
    while ((grid + 1) * (grid + 1) <= position[0] - 1) grid++;
    if (grid * grid + 1 != position[0])
        return di_fail_at(DISTAC_ESHAPE, "distac_vit_open",
                          "\"visual.positional_embedding\" has %lld rows, wanted 1 + a square number",
                          (long long)position[0]);
    if (conv[2] != conv[3] || conv[2] * grid > INT32_MAX)
        return di_fail_at(DISTAC_ESHAPE, "distac_vit_open", "\"visual.conv1.weight\" has patches of %lld x %lld",
                          (long long)conv[2], (long long)conv[3]);
    *out = (distac_vit_config){.image = (int32_t)(conv[2] * grid), .patch = (int32_t)conv[2],
                               .channels = (int32_t)conv[1], .width = (int32_t)conv[0],
                               .layers = count_layers(ck), .mlp = (int32_t)fc[0], .dim = (int32_t)proj[1]};
    DI_TRY(read_heads(ck, heads, out->width, &out->heads));
    return read_activation(ck, activation, &out->activation);
}

/* [new] The checkpoint under the canonical names: itself if it has them (or nothing of CLIP, whose error then
 * tells the names that are wanted), another publisher's names translated. */
static distac_status canonical(const distac_checkpoint *checkpoint, const distac_checkpoint **out,
                               distac_checkpoint **made) {
    const char *layout = distac_checkpoint_layout(checkpoint);
    *out = checkpoint;
    *made = NULL;
    if (strcmp(layout, "plain") == 0 ||
        (strcmp(layout, "open_clip") == 0 && !*distac_checkpoint_prefix(checkpoint)))
        return DISTAC_OK;
    DI_TRY(distac_checkpoint_convert(checkpoint, "open_clip", made));
    *out = *made;
    return DISTAC_OK;
}

static distac_status load_canonical(distac_vit *vit, const distac_checkpoint *checkpoint);

distac_status distac_vit_open(distac_context *context, const distac_checkpoint *checkpoint, int32_t activation,
                              int32_t heads, int32_t dtype, distac_vit **out) {
    DI_REQUIRE(context && checkpoint && out, "context, checkpoint and out are needed");
    *out = NULL;
    distac_vit_config config;
    const distac_checkpoint *named;
    distac_checkpoint *made;
    DI_TRY(canonical(checkpoint, &named, &made));
    distac_status status = read_config(named, activation, heads, &config);
    if (status == DISTAC_OK) status = distac_vit_create(context, &config, dtype, out);
    if (status == DISTAC_OK) status = load_canonical(*out, named);
    distac_checkpoint_release(made);
    if (status != DISTAC_OK) {
        distac_vit_release(*out);
        *out = NULL;
    }
    return status;
}

/* ---- loading ---- */

enum { LISTED = 12 }; /* misfits written out; the rest are counted */
typedef struct misfits {
    di_text text;
    int64_t count;
    distac_status status;
} misfits;

static void misfit(misfits *m, distac_status status) {
    if (m->count++ == 0) m->status = status;
    if (m->count > 1 && m->count <= LISTED) di_text_add(&m->text, "; ");
}

static void check_param(const distac_vit *vit, const distac_checkpoint *ck, const char *const *names,
                        int64_t index, misfits *m) {
    const di_param *p = &vit->params[index];
    int64_t found = distac_checkpoint_find(ck, p->name);
    if (found < 0) {
        misfit(m, DISTAC_ENOTFOUND);
        if (m->count > LISTED) return;
        const char *near = di_nearest(p->name, distac_checkpoint_count(ck), names);
        di_text_add(&m->text, "\"%s\" is missing", p->name);
        if (near) di_text_add(&m->text, " (nearest: \"%s\")", near);
        return;
    }
    distac_tensor *t = NULL;
    distac_status status = distac_checkpoint_tensor(ck, found, &t);
    if (status != DISTAC_OK) {
        misfit(m, status);
        if (m->count <= LISTED) di_text_add(&m->text, "\"%s\": %s", p->name, distac_last_error());
        return;
    }
    bool same = t->rank == p->rank;
    for (int32_t d = 0; same && d < p->rank; d++) same = t->shape[d] == p->shape[d];
    char is[160], wanted[160];
    if (!same) {
        misfit(m, DISTAC_ESHAPE);
        if (m->count <= LISTED)
            di_text_add(&m->text, "\"%s\" has shape %s, wanted %s", p->name,
                        di_shape_text(t->rank, t->shape, is, sizeof is),
                        di_shape_text(p->rank, p->shape, wanted, sizeof wanted));
    } else if (!di_dtype_is_float(t->dtype)) {
        misfit(m, DISTAC_EDTYPE);
        if (m->count <= LISTED)
            di_text_add(&m->text, "\"%s\" is %s, wanted a float type", p->name, distac_dtype_name(t->dtype));
    }
    distac_tensor_release(t);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A float tensor under "visual." that the architecture has no place for: the weights are another model's. */
static void check_extra(const distac_vit *vit, const distac_checkpoint *ck, const char **sorted, int64_t index,
                        misfits *m) {
    const char *name = distac_checkpoint_name(ck, index);
    if (strncmp(name, PREFIX, sizeof PREFIX - 1) != 0) return;
    if (bsearch(&name, sorted, (size_t)vit->param_count, sizeof *sorted, by_name)) return;
    distac_checkpoint_info info;
    if (distac_checkpoint_get_info(ck, index, &info) != DISTAC_OK || info.dtype < 0 ||
        !di_dtype_is_float(info.dtype))
        return;
    misfit(m, DISTAC_ENOTFOUND);
    if (m->count <= LISTED) di_text_add(&m->text, "\"%s\" has no place in this architecture", name);
}

static distac_status check_all(const distac_vit *vit, const distac_checkpoint *ck) {
    int64_t count = distac_checkpoint_count(ck);
    const char **names = di_new((size_t)(count > 0 ? count : 1) * sizeof *names);
    const char **sorted = di_new((size_t)vit->param_count * sizeof *sorted);
    misfits m = {.status = DISTAC_ENOMEM};
    if (names && sorted) {
        m.status = DISTAC_OK;
        for (int64_t i = 0; i < count; i++) names[i] = distac_checkpoint_name(ck, i);
        for (int64_t i = 0; i < vit->param_count; i++) sorted[i] = vit->params[i].name;
        qsort(sorted, (size_t)vit->param_count, sizeof *sorted, by_name);
        for (int64_t i = 0; i < vit->param_count; i++) check_param(vit, ck, names, i, &m);
        for (int64_t i = 0; i < count; i++) check_extra(vit, ck, sorted, i, &m);
    }
    free(names);
    free(sorted);
    if (m.count > LISTED) di_text_add(&m.text, "; and %lld more", (long long)(m.count - LISTED));
    if (m.count > 0)
        (void)di_fail_at(m.status, "distac_vit_load", "the checkpoint does not fit the encoder: %s",
                         m.text.bytes ? m.text.bytes : "out of memory for the list");
    di_text_free(&m.text);
    return m.status;
}

static distac_status load_canonical(distac_vit *vit, const distac_checkpoint *checkpoint) {
    DI_TRY(check_all(vit, checkpoint));
    vit->kept_batch = 0;
    for (int64_t i = 0; i < vit->param_count; i++) {
        distac_tensor *from = NULL, *to = NULL;
        int64_t index = distac_checkpoint_find(checkpoint, vit->params[i].name);
        distac_status status = distac_checkpoint_tensor(checkpoint, index, &from);
        if (status == DISTAC_OK) status = distac_vit_param(vit, i, &to);
        if (status == DISTAC_OK) status = distac_tensor_copy(to, from);
        distac_tensor_release(from);
        distac_tensor_release(to);
        if (status != DISTAC_OK) return status;
    }
    return DISTAC_OK;
}

distac_status distac_vit_load(distac_vit *vit, const distac_checkpoint *checkpoint) {
    DI_REQUIRE(vit && checkpoint, "vit and checkpoint are needed");
    const distac_checkpoint *named;
    distac_checkpoint *made;
    DI_TRY(canonical(checkpoint, &named, &made));
    distac_status status = load_canonical(vit, named);
    distac_checkpoint_release(made);
    return status;
}

/* ---- saving ---- */

static distac_status fill_checkpoint(const distac_vit *vit, const distac_tensor *flat, distac_checkpoint *ck) {
    for (int64_t i = 0; i < vit->param_count; i++) {
        const di_param *p = &vit->params[i];
        distac_tensor *view = NULL, *here = NULL;
        DI_TRY(di_tensor_slice(flat, p->offset, p->rank, p->shape, &view));
        distac_status status = di_tensor_bring(view, false, &here);
        if (status == DISTAC_OK) status = distac_checkpoint_set(ck, p->name, here);
        distac_tensor_release(here);
        distac_tensor_release(view);
        DI_TRY(status);
    }
    di_text heads = {0};
    di_text_add(&heads, "%d", (int)vit->config.heads);
    distac_status status = heads.failed ? di_fail(DISTAC_ENOMEM, "out of memory")
                                        : distac_checkpoint_set_metadata(ck, "vit.heads", heads.bytes);
    di_text_free(&heads);
    DI_TRY(status);
    return distac_checkpoint_set_metadata(
        ck, "vit.activation", vit->config.activation == DISTAC_ACT_GELU ? "gelu" : "quick_gelu");
}

distac_status distac_vit_checkpoint(const distac_vit *vit, int32_t copy, distac_checkpoint **out) {
    DI_REQUIRE(vit && out, "vit and out are needed");
    *out = NULL;
    distac_tensor *flat = NULL;
    distac_checkpoint *ck = NULL;
    distac_status status =
        copy ? distac_tensor_cast(vit->flat, vit->dtype, &flat) : distac_vit_params(vit, &flat);
    if (status == DISTAC_OK) status = distac_checkpoint_create(vit->context, &ck);
    if (status == DISTAC_OK) status = fill_checkpoint(vit, flat, ck);
    distac_tensor_release(flat);
    if (status == DISTAC_OK) *out = ck;
    else distac_checkpoint_release(ck);
    return status;
}
