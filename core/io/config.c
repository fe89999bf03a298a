/* config.c: what a folder's config.json (transformers) or open_clip_config.json says about a CLIP model that its
 * tensors do not: the activation and the number of heads. What both say must agree. */
#include "index.h"
#include "layout.h"
#include <stdlib.h>
#include <string.h>

/* What is known of one tower; 0 or empty: not said. */
typedef struct facts {
    bool said;
    char activation[32];
    int64_t heads, width, layers, image, patch;
} facts;

typedef struct config {
    const char *path;
    facts towers[DI_TOWERS];
} config;

static const char *const prefixes[DI_TOWERS] = {"vit", "text"};

char *di_path_join(const char *folder, const char *name) {
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/') length--;
    di_text text = {0};
    di_text_add(&text, "%.*s%s%s", (int)length, folder, length && folder[length - 1] == '/' ? "" : "/", name);
    if (!text.failed) return text.bytes;
    di_text_free(&text);
    (void)di_fail(DISTAC_ENOMEM, "out of memory");
    return NULL;
}

char *di_path_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    di_text text = {0};
    if (!slash) return di_strdup(".");
    di_text_add(&text, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    if (!text.failed) return text.bytes;
    di_text_free(&text);
    (void)di_fail(DISTAC_ENOMEM, "out of memory");
    return NULL;
}

/* ---- reading fields ---- */

/* A whole number, or the format's own default where it is not written. */
static distac_status number(const config *c, const di_json *object, const char *key, int64_t otherwise,
                            int64_t *out) {
    const di_json *value = di_json_get(object, key);
    *out = otherwise;
    if (!value || value->kind == DI_JSON_NULL) return DISTAC_OK;
    if (value->kind != DI_JSON_INTEGER || value->integer < 1 || value->integer > INT32_MAX)
        return di_fail_at(DISTAC_EFORMAT, "open", "%s: %s must be a whole number from 1 on", c->path, key);
    *out = value->integer;
    return DISTAC_OK;
}

static distac_status word(const config *c, const di_json *object, const char *key, const char *otherwise,
                          char out[32]) {
    const di_json *value = di_json_get(object, key);
    const char *text = value && value->kind != DI_JSON_NULL ? di_json_text(value) : otherwise;
    if (!text || strlen(text) > 31)
        return di_fail_at(DISTAC_EFORMAT, "open", "%s: %s must be a short text", c->path, key);
    memcpy(out, text, strlen(text) + 1);
    return DISTAC_OK;
}

/* ---- transformers ---- */

/* A tower's own object. Old files have it twice; the one that ends in _dict counts, as transformers has it. */
static const di_json *section(const di_json *root, const char *name, const char *old) {
    const di_json *found = di_json_get(root, old);
    if (!di_json_is(found, DI_JSON_OBJECT)) found = di_json_get(root, name);
    return di_json_is(found, DI_JSON_OBJECT) ? found : NULL;
}

/* Values that are not written are the format's defaults: its writer leaves them out. */
static distac_status hf_tower(config *c, const di_json *object, int32_t tower) {
    facts *f = &c->towers[tower];
    bool vision = tower == DI_VISION;
    f->said = true;
    DI_TRY(word(c, object, "hidden_act", "quick_gelu", f->activation));
    DI_TRY(number(c, object, "num_attention_heads", vision ? 12 : 8, &f->heads));
    DI_TRY(number(c, object, "hidden_size", vision ? 768 : 512, &f->width));
    DI_TRY(number(c, object, "num_hidden_layers", 12, &f->layers));
    const di_json *eps = di_json_get(object, "layer_norm_eps");
    if (di_json_is_number(eps) && eps->real != 1e-5)
        return di_fail_at(DISTAC_EUNSUPPORTED, "open", "%s: layer_norm_eps is %g; CLIP's is 1e-05", c->path,
                          eps->real);
    if (!vision) return DISTAC_OK;
    DI_TRY(number(c, object, "image_size", 224, &f->image));
    return number(c, object, "patch_size", 32, &f->patch);
}

static distac_status read_hf(config *c, const di_json *root) {
    const char *type = di_json_text(di_json_get(root, "model_type"));
    const di_json none = {.kind = DI_JSON_OBJECT}, *empty = &none;
    distac_status status = DISTAC_OK;
    if (type && strcmp(type, "clip") == 0) {
        const di_json *vision = section(root, "vision_config", "vision_config_dict");
        const di_json *text = section(root, "text_config", "text_config_dict");
        status = hf_tower(c, vision ? vision : empty, DI_VISION);
        if (status == DISTAC_OK) status = hf_tower(c, text ? text : empty, DI_TEXT);
    } else if (type && strcmp(type, "clip_vision_model") == 0) {
        status = hf_tower(c, root, DI_VISION);
    } else if (type && strcmp(type, "clip_text_model") == 0) {
        status = hf_tower(c, root, DI_TEXT);
    }
    return status;
}

/* ---- open_clip ---- */

static distac_status read_open_clip(config *c, const di_json *root) {
    const di_json *model = di_json_get(root, "model_cfg");
    const di_json *vision = di_json_get(model, "vision_cfg"), *text = di_json_get(model, "text_cfg");
    if (!di_json_is(model, DI_JSON_OBJECT))
        return di_fail_at(DISTAC_EFORMAT, "open", "%s: model_cfg must be an object", c->path);
    const char *activation = di_json_is(di_json_get(model, "quick_gelu"), DI_JSON_TRUE) ? "quick_gelu" : "gelu";
    if (di_json_is(vision, DI_JSON_OBJECT) && !di_json_get(vision, "timm_model_name")) {
        facts *f = &c->towers[DI_VISION];
        int64_t head_width;
        f->said = true;
        memcpy(f->activation, activation, strlen(activation) + 1);
        DI_TRY(number(c, vision, "width", 768, &f->width));
        DI_TRY(number(c, vision, "layers", 12, &f->layers));
        DI_TRY(number(c, vision, "head_width", 64, &head_width));
        DI_TRY(number(c, vision, "image_size", 224, &f->image));
        DI_TRY(number(c, vision, "patch_size", 16, &f->patch));
        f->heads = f->width / head_width;
    }
    if (di_json_is(text, DI_JSON_OBJECT) && !di_json_get(text, "hf_model_name")) {
        facts *f = &c->towers[DI_TEXT];
        f->said = true;
        memcpy(f->activation, activation, strlen(activation) + 1);
        DI_TRY(number(c, text, "heads", 8, &f->heads));
        DI_TRY(number(c, text, "width", 512, &f->width));
        DI_TRY(number(c, text, "layers", 12, &f->layers));
    }
    return DISTAC_OK;
}

/* ---- into the checkpoint ---- */

static distac_status take(const config *c, distac_checkpoint *checkpoint, int32_t tower, const char *what,
                          const char *value) {
    char key[32];
    size_t length = strlen(prefixes[tower]);
    memcpy(key, prefixes[tower], length);
    key[length] = '.';
    memcpy(key + length + 1, what, strlen(what) + 1);
    const char *before = distac_checkpoint_metadata(checkpoint, key);
    if (!before) return di_checkpoint_pair(checkpoint, key, value);
    if (strcmp(before, value) == 0) return DISTAC_OK;
    return di_fail_at(DISTAC_EFORMAT, "open",
                      "%s says that %s is %s, the metadata of the tensors' file says %.31s", c->path, key, value,
                      before);
}

static void compare(const char *what, int64_t said, int64_t is, di_text *text) {
    if (said && is && said != is)
        di_text_add(text, "\n  %s: %lld, the tensors have %lld", what, (long long)said, (long long)is);
}

/* The configuration of another model beside these tensors would be a trap. A checkpoint that is no whole CLIP
 * model is not judged here: whoever wants one will. */
static distac_status check_shapes(const config *c, const distac_checkpoint *checkpoint) {
    distac_clip_info is;
    const facts *vision = &c->towers[DI_VISION], *words = &c->towers[DI_TEXT];
    if (strcmp(distac_checkpoint_layout(checkpoint), "plain") == 0) return DISTAC_OK;
    distac_status clip = distac_checkpoint_clip(checkpoint, &is);
    if (clip != DISTAC_OK) return clip == DISTAC_ENOMEM ? clip : DISTAC_OK;
    di_text text = {0};
    compare("the image tower's width", vision->width, is.width, &text);
    compare("the image tower's layers", vision->layers, is.layers, &text);
    compare("the image's side", vision->image, is.image, &text);
    compare("the patches' side", vision->patch, is.patch, &text);
    compare("the text tower's width", words->width, is.text_width, &text);
    compare("the text tower's layers", words->layers, is.text_layers, &text);
    distac_status status =
        text.failed ? di_fail_at(DISTAC_ENOMEM, "open", "%s: out of memory", c->path) : DISTAC_OK;
    if (status == DISTAC_OK && text.length)
        status = di_fail_at(DISTAC_ESHAPE, "open", "%s is not the configuration of these tensors:%s", c->path,
                            text.bytes);
    di_text_free(&text);
    return status;
}

static distac_status put(const config *c, distac_checkpoint *checkpoint) {
    DI_TRY(check_shapes(c, checkpoint));
    for (int32_t tower = 0; tower < DI_TOWERS; tower++) {
        const facts *f = &c->towers[tower];
        if (!f->said) continue;
        di_text heads = {0};
        di_text_add(&heads, "%lld", (long long)f->heads);
        distac_status status = heads.failed ? di_fail(DISTAC_ENOMEM, "out of memory")
                                            : take(c, checkpoint, tower, "heads", heads.bytes);
        di_text_free(&heads);
        DI_TRY(status);
        DI_TRY(take(c, checkpoint, tower, "activation", f->activation));
    }
    return DISTAC_OK;
}

static distac_status apply(distac_checkpoint *checkpoint, const char *path,
                           distac_status (*read)(config *c, const di_json *root)) {
    config c = {.path = path};
    di_map map;
    di_json_document document;
    DI_TRY(di_map_open(path, &map));
    distac_status status = di_json_parse(path, map.data, map.bytes, &document);
    di_map_close(&map);
    DI_TRY(status);
    status = read(&c, document.root);
    di_json_free(&document);
    return status == DISTAC_OK ? put(&c, checkpoint) : status;
}

distac_status di_config_apply(distac_checkpoint *checkpoint, const char *folder, bool needed) {
    static const struct {
        const char *name;
        distac_status (*read)(config *c, const di_json *root);
    } files[] = {{"config.json", read_hf}, {"open_clip_config.json", read_open_clip}};
    bool any = false;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char *path = di_path_join(folder, files[i].name);
        if (!path) return DISTAC_ENOMEM;
        distac_status status = DISTAC_OK;
        if (distac_path_kind(path) == 1) {
            any = true;
            status = apply(checkpoint, path, files[i].read);
        }
        free(path);
        DI_TRY(status);
    }
    if (any || !needed) return DISTAC_OK;
    return di_fail_at(
        DISTAC_ENOTFOUND, "open",
        "'%s' holds neither config.json nor open_clip_config.json: it is no model's folder; a file of "
        "tensors can be opened by itself",
        folder);
}
