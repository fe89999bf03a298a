/* pt_read.c: PyTorch's file formats: the zip archive (since 1.6) and the stacked pickles before it. What else is
 * met under the same names (TorchScript, model archives, tar) is refused by name. Files by pickle.dump, as the
 * first task vectors were published, are plain pickles whose storages are files of stacked pickles inside. */
#include "pt_read.h"
#include <stdlib.h>
#include <string.h>

/* The number 0x1950a86a20f9469cfc6c and the protocol version 1001, each a pickle. */
static const uint8_t stacked_magic[] = {0x80, 2,    0x8a, 10,  0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a,
                                       0xa8, 0x50, 0x19, '.', 0x80, 2,    'M',  0xe9, 3,    '.'};
enum { MAGIC_BYTES = 15 };

static bool starts(const uint8_t *data, size_t size, const void *bytes, size_t count) {
    return size >= count && memcmp(data, bytes, count) == 0;
}

static bool is_tar(const uint8_t *data, size_t size) {
    return size >= 512 && memcmp(data + 257, "ustar", 5) == 0;
}

bool di_pt_recognise(const uint8_t *data, size_t size) {
    /* A safetensors file's length can begin with any of the bytes below; its header then begins with a brace. */
    if (size > 8 && data[5] == 0 && data[6] == 0 && data[7] == 0 && data[8] == '{') return false;
    return starts(data, size, "PK\3\4", 4) || starts(data, size, "PK\5\6", 4) ||
           starts(data, size, "\x1f\x8b", 2) || (size >= 2 && data[0] == 0x80 && data[1] >= 1 && data[1] <= 5) ||
           is_tar(data, size);
}

/* ---- archives ---- */

typedef struct archive {
    di_zip zip;
    size_t prefix; /* bytes before the member's own name, with the slash */
    const di_zip_member *pickle;
} archive;

static bool is(const char *name, size_t bytes, const char *text) {
    return bytes == strlen(text) && memcmp(name, text, bytes) == 0;
}

static bool begins(const char *name, size_t bytes, const char *text) {
    return bytes >= strlen(text) && memcmp(name, text, strlen(text)) == 0;
}

/* Archives of other kinds, told by a member that only they have. */
static distac_status check_kind(const archive *a) {
    for (int64_t i = 0; i < a->zip.count; i++) {
        const di_zip_member *m = &a->zip.members[i];
        const char *slash = memchr(m->name, '/', m->name_bytes);
        const char *rest = slash ? slash + 1 : m->name;
        size_t bytes = m->name_bytes - (size_t)(rest - m->name);
        if (slash && (begins(rest, bytes, "code/") || is(rest, bytes, "constants.pkl")))
            return di_pt_fail(
                a->zip.path, m->header,
                "a TorchScript archive (torch.jit.save); load it in Python with torch.jit.load and save "
                "its state_dict() with torch.save");
        if (begins(m->name, m->name_bytes, "MAR-INF/"))
            return di_pt_fail(a->zip.path, m->header,
                              "a TorchServe model archive (.mar); unpack it and open the file of weights inside");
    }
    return DISTAC_OK;
}

static bool all_digits(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (text[i] < '0' || text[i] > '9') return false;
    return bytes > 0;
}

static bool is_known(const char *name, size_t bytes) {
    static const char *const known[] = {
        "data.pkl", "version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (is(name, bytes, known[i])) return true;
    return begins(name, bytes, "data/") && all_digits(name + 5, bytes - 5);
}

/* A plain folder name before the first slash, the same for all, and behind it only what PyTorch writes. */
static distac_status check_names(archive *a) {
    char shown[80];
    const di_zip_member *first = &a->zip.members[0];
    for (int64_t i = 0; i < a->zip.count; i++) {
        const di_zip_member *m = &a->zip.members[i];
        const char *slash = memchr(m->name, '/', m->name_bytes);
        size_t prefix = slash ? (size_t)(slash - m->name) + 1 : 0;
        di_pt_shown(m->name, m->name_bytes, shown);
        if (memchr(m->name, 0, m->name_bytes) || memchr(m->name, '\\', m->name_bytes))
            return di_pt_fail(a->zip.path, m->header, "the member's name \"%s\" holds NUL or a backslash", shown);
        if (prefix == 1) return di_pt_fail(a->zip.path, m->header, "the member's name \"%s\" is absolute", shown);
        if (is(m->name, prefix, "../") || is(m->name, prefix, "./"))
            return di_pt_fail(a->zip.path, m->header, "the member's name \"%s\" leaves its folder", shown);
        if (prefix == 0 || !is_known(m->name + prefix, m->name_bytes - prefix))
            return di_pt_fail(a->zip.path, m->header,
                              "a zip archive whose member \"%s\" does not belong into a PyTorch archive "
                              "(FOLDER/data.pkl, FOLDER/data/NUMBER, FOLDER/version)",
                              shown);
        if (i == 0) a->prefix = prefix;
        if (prefix != a->prefix || memcmp(m->name, first->name, prefix) != 0)
            return di_pt_fail(a->zip.path, m->header, "the member \"%s\" is in another folder than the first",
                              shown);
    }
    return DISTAC_OK;
}

/* The member FOLDER/NAME. */
static const di_zip_member *member(const archive *a, const char *name, size_t bytes) {
    char full[DI_ZIP_MAX_NAME];
    if (a->prefix + bytes > sizeof full) return NULL;
    memcpy(full, a->zip.members[0].name, a->prefix);
    memcpy(full + a->prefix, name, bytes);
    return di_zip_find(&a->zip, full, a->prefix + bytes);
}

static distac_status check_facts(archive *a) {
    const di_zip_member *m = member(a, "byteorder", 9);
    const char *text;
    if (m) {
        text = (const char *)a->zip.data + m->offset;
        if (m->bytes > 8)
            return di_pt_fail(a->zip.path, m->offset, "byteorder has %llu bytes, at most 8 are allowed",
                              (unsigned long long)m->bytes);
        if (!is(text, (size_t)m->bytes, "little")) {
            char shown[80];
            return di_pt_fail(a->zip.path, m->offset,
                              "byteorder is \"%s\"; only files written on little-endian machines are read",
                              di_pt_shown(text, (size_t)m->bytes, shown));
        }
    }
    m = member(a, "version", 7);
    if (m) {
        text = (const char *)a->zip.data + m->offset;
        size_t bytes = (size_t)m->bytes;
        if (bytes > 0 && bytes <= 11 && text[bytes - 1] == '\n') bytes--;
        if (bytes > 10 || !all_digits(text, bytes))
            return di_pt_fail(a->zip.path, m->offset, "version must be 1 to 10 digits");
    }
    a->pickle = member(a, "data.pkl", 8);
    if (!a->pickle) return di_pt_fail(a->zip.path, 0, "the archive has no data.pkl: it is no PyTorch checkpoint");
    return DISTAC_OK;
}

/* Finds each storage's member; its size must be what the pickle says. */
static distac_status place_storages(di_pt *pt, const archive *a) {
    for (int64_t i = 0; i < pt->storage_count; i++) {
        di_pt_storage *s = &pt->storages[i];
        uint64_t at = pt->pickle.values[s->value].at;
        char name[32] = "data/", shown[80];
        memcpy(name + 5, s->key->u.text, s->key->a);
        const di_zip_member *m = member(a, name, 5 + s->key->a);
        di_pt_shown(s->key->u.text, s->key->a, shown);
        if (!m) return di_pt_fail(pt->path, at, "the storage \"%s\" has no member data/%s", shown, shown);
        uint64_t wanted = (uint64_t)s->count * (uint64_t)(s->type->bits / 8);
        if (wanted != m->bytes)
            return di_pt_fail(
                pt->path, at,
                "storage \"%s\" is said to hold %lld elements of %s, %llu bytes, but its member has %llu", shown,
                (long long)s->count, s->type->name, (unsigned long long)wanted, (unsigned long long)m->bytes);
        s->data = pt->data + m->offset;
    }
    return DISTAC_OK;
}

static distac_status read_archive(di_pt *pt, archive *a) {
    DI_TRY(di_zip_open(pt->path, pt->data, pt->size, &a->zip));
    DI_TRY(check_kind(a));
    DI_TRY(check_names(a));
    DI_TRY(di_zip_check(pt->checkpoint->context, &a->zip));
    DI_TRY(check_facts(a));
    uint64_t end = a->pickle->offset + a->pickle->bytes;
    DI_TRY(di_pickle_read(&pt->pickle, pt->path, pt->data, a->pickle->offset, end, DI_PICKLE_ARCHIVE));
    if (pt->pickle.at != end)
        return di_pt_fail(pt->path, pt->pickle.at, "%llu bytes follow the pickle's STOP",
                          (unsigned long long)(end - pt->pickle.at));
    DI_TRY(di_pt_storages(pt));
    DI_TRY(place_storages(pt, a));
    return di_pt_check_tensors(pt);
}

/* ---- stacked pickles ---- */

/* The facts of the machine that wrote the file. */
static distac_status read_machine(const char *path, const uint8_t *data, uint64_t *at, uint64_t end) {
    uint32_t little;
    di_pickle p;
    distac_status status = di_pickle_read(&p, path, data, *at, end, DI_PICKLE_STACKED);
    if (status == DISTAC_OK && (!di_pickle_get(&p, p.root, "little_endian", &little) ||
                                !di_pickle_is(&p, little, DI_PICKLE_BOOL) || !p.values[little].u.number))
        status = di_pt_fail(path, *at,
                            "the file does not say that it was written on a little-endian machine; "
                            "only such files are read");
    *at = p.at;
    di_pickle_close(&p);
    return status;
}

distac_status di_pt_stacked_head(const char *path, const uint8_t *data, uint64_t *at, uint64_t end) {
    if (!starts(data + *at, end - *at, stacked_magic, sizeof stacked_magic))
        return di_pt_fail(path, *at + MAGIC_BYTES, "the protocol version of these stacked pickles is not 1001");
    *at += sizeof stacked_magic;
    return read_machine(path, data, at, end);
}

/* The number of elements, then the elements. */
static distac_status place_legacy(di_pt *pt, const di_pickle_value *key, uint64_t *at) {
    char shown[80];
    di_pt_shown(key->u.text, key->a, shown);
    di_pt_storage *s = di_pt_storage_named(pt, key->u.text, key->a);
    if (!s) return di_pt_fail(pt->path, key->at, "no tensor uses the storage \"%s\"", shown);
    if (s->found) return di_pt_fail(pt->path, key->at, "the storage \"%s\" is listed twice", shown);
    if (pt->size - *at < 8) return di_pt_fail(pt->path, *at, "the file ends before the storage \"%s\"", shown);
    uint64_t count = di_u64(pt->data + *at), width = (uint64_t)s->type->bits / 8;
    if (count != (uint64_t)s->count)
        return di_pt_fail(pt->path, *at, "storage \"%s\" has %llu elements here, but %lld in the pickle", shown,
                          (unsigned long long)count, (long long)s->count);
    *at += 8;
    if (count > (pt->size - *at) / width)
        return di_pt_fail(pt->path, *at, "storage \"%s\" has %llu elements of %s, but only %llu bytes follow",
                          shown, (unsigned long long)count, s->type->name, (unsigned long long)(pt->size - *at));
    s->data = pt->data + *at;
    s->found = true;
    *at += count * width;
    return DISTAC_OK;
}

static distac_status place_all_legacy(di_pt *pt, const di_pickle *keys) {
    uint64_t at = keys->at;
    char shown[80];
    const di_pickle_value *list = &keys->values[keys->root];
    if (list->kind != DI_PICKLE_LIST)
        return di_pt_fail(pt->path, list->at, "the storages' keys are %s, wanted a list",
                          di_pickle_kind_name(keys, keys->root));
    for (uint32_t cell = list->a; cell; cell = keys->cells[cell].next) {
        const di_pickle_value *key = &keys->values[keys->cells[cell].value];
        if (key->kind != DI_PICKLE_TEXT)
            return di_pt_fail(pt->path, list->at, "a storage's key is %s, wanted a text",
                              di_pickle_kind_name(keys, keys->cells[cell].value));
        DI_TRY(place_legacy(pt, key, &at));
    }
    for (int64_t i = 0; i < pt->storage_count; i++)
        if (!pt->storages[i].found)
            return di_pt_fail(pt->path, pt->pickle.values[pt->storages[i].value].at,
                              "the storage \"%s\" is not in the file",
                              di_pt_shown(pt->storages[i].key->u.text, pt->storages[i].key->a, shown));
    if (at != pt->size)
        return di_pt_fail(pt->path, at, "%llu bytes follow the last storage", (unsigned long long)(pt->size - at));
    return DISTAC_OK;
}

static distac_status read_legacy(di_pt *pt) {
    uint64_t at = 0;
    DI_TRY(di_pt_stacked_head(pt->path, pt->data, &at, pt->size));
    DI_TRY(di_pickle_read(&pt->pickle, pt->path, pt->data, at, pt->size, DI_PICKLE_STACKED));
    DI_TRY(di_pt_storages(pt));
    di_pickle keys;
    distac_status status = di_pickle_read(&keys, pt->path, pt->data, pt->pickle.at, pt->size, DI_PICKLE_STACKED);
    if (status == DISTAC_OK) status = place_all_legacy(pt, &keys);
    di_pickle_close(&keys);
    return status == DISTAC_OK ? di_pt_check_tensors(pt) : status;
}

/* ---- plain pickles ---- */

static distac_status read_plain(di_pt *pt) {
    if (pt->size < 2 || pt->data[0] != 0x80)
        return di_pt_fail(pt->path, 0,
                          "neither a PyTorch file nor a pickle of protocol 2 to 5; load it in Python and save it "
                          "with torch.save");
    DI_TRY(di_pickle_read(&pt->pickle, pt->path, pt->data, 0, pt->size, DI_PICKLE_PLAIN));
    if (pt->pickle.at != pt->size)
        return di_pt_fail(pt->path, pt->pickle.at, "%llu bytes follow the pickle's STOP",
                          (unsigned long long)(pt->size - pt->pickle.at));
    DI_TRY(di_pt_storages(pt));
    return di_pt_check_tensors(pt);
}

/* ---- the whole ---- */

static distac_status read_any(di_pt *pt) {
    if (starts(pt->data, pt->size, "PK", 2)) {
        archive a = {0};
        distac_status status = read_archive(pt, &a);
        free(a.zip.members);
        return status;
    }
    if (is_tar(pt->data, pt->size))
        return di_pt_fail(
            pt->path, 0,
            "a tar archive, as PyTorch wrote before 0.1.10 or as a packed folder; unpack it, or load "
            "it in Python and save it again with torch.save");
    if (starts(pt->data, pt->size, "\x1f\x8b", 2))
        return di_pt_fail(pt->path, 0, "the file is packed by gzip; unpack it first");
    if (starts(pt->data, pt->size, stacked_magic, MAGIC_BYTES)) return read_legacy(pt);
    return read_plain(pt);
}

distac_status di_pt_parse(distac_checkpoint *checkpoint, const uint8_t *data, size_t size) {
    di_pt *pt = di_new(sizeof *pt);
    if (!pt) return DISTAC_ENOMEM;
    *pt = (di_pt){.checkpoint = checkpoint, .path = checkpoint->path, .data = data, .size = size};
    distac_status status = read_any(pt);
    if (status == DISTAC_OK) status = di_pt_names(pt);
    for (int64_t i = 0; i < pt->copy_count; i++) distac_tensor_release(pt->copies[i]);
    free(pt->copies);
    free(pt->storages);
    di_pickle_close(&pt->pickle);
    free(pt);
    return status;
}
