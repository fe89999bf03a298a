/* sheet.c: glyph sheets: a PNG of square cells and a text beside it that says what each cell shows (the grammar is
 * in examples/mini8/render_sheets.py). Cells smaller than 32x32 are scaled to 24 and centred. */
#include "mini8.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_GLYPHS = 1 << 20, MOST_CLASSES = 1 << 16 };

typedef struct parser {
    const char *path;
    const char *at, *end; /* unread text */
    int line;
    int64_t cell, columns;
    di_sheet *sheet;
    int64_t classes, glyphs; /* read so far */
    int split;               /* of the last family line, -1 before the first */
    uint32_t family;
} parser;

#define wrong(p, ...) di_fail_at(DISTAC_EFORMAT, "glyph sheet", __VA_ARGS__, (p)->path, (p)->line)

/* The next line without its end; false at the end of the text. */
static bool next_line(parser *p, const char **line, size_t *length) {
    if (p->at == p->end) return false;
    const char *stop = memchr(p->at, '\n', (size_t)(p->end - p->at));
    *line = p->at;
    *length = (size_t)((stop ? stop : p->end) - p->at);
    p->at = stop ? stop + 1 : p->end;
    p->line++;
    return true;
}

static bool starts(const char **text, size_t *length, const char *word) {
    size_t n = strlen(word);
    if (*length < n || memcmp(*text, word, n) != 0) return false;
    *text += n;
    *length -= n;
    return true;
}

/* A decimal number below 2^31. */
static bool take_number(const char **text, size_t *length, int64_t *out) {
    size_t n = 0;
    int64_t value = 0;
    for (; n < *length && n < 10 && (*text)[n] >= '0' && (*text)[n] <= '9'; n++)
        value = value * 10 + (*text)[n] - '0';
    if (n == 0 || value > INT32_MAX) return false;
    *text += n;
    *length -= n;
    *out = value;
    return true;
}

static bool take_hash(const char **text, size_t *length, uint32_t *out) {
    if (*length < 8) return false;
    uint32_t value = 0;
    for (int i = 0; i < 8; i++) {
        char c = (*text)[i];
        if (c >= '0' && c <= '9')
            value = value << 4 | (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uint32_t)(c - 'a' + 10);
        else
            return false;
    }
    *text += 8;
    *length -= 8;
    *out = value;
    return true;
}

static distac_status read_first(parser *p, const char *text, size_t length) {
    const char *space;
    di_sheet *s = p->sheet;
    bool good = starts(&text, &length, "sheet ") && (space = memchr(text, ' ', length)) != NULL;
    if (good) {
        length -= (size_t)(space - text);
        text = space;
    }
    good = good && starts(&text, &length, " cell ") && take_number(&text, &length, &p->cell) &&
           starts(&text, &length, " columns ") && take_number(&text, &length, &p->columns) &&
           starts(&text, &length, " glyphs ") && take_number(&text, &length, &s->glyphs) &&
           starts(&text, &length, " classes ") && take_number(&text, &length, &s->classes) && length == 0;
    if (!good) return wrong(p, "wanted \"sheet NAME cell N columns N glyphs N classes N\" in %s line %d");
    if (p->cell < 1 || p->cell > DI_CELL || p->columns < 1 || p->columns > 4096 || s->glyphs < 1 ||
        s->glyphs > MOST_GLYPHS || s->classes < 1 || s->classes > MOST_CLASSES)
        return wrong(p, "a number is out of range in %s line %d");
    size_t n = (size_t)s->glyphs;
    s->names = di_new((size_t)s->classes * sizeof *s->names);
    s->label = di_new(n * sizeof *s->label);
    s->split = di_new(n);
    s->family = di_new(n * sizeof *s->family);
    return s->names && s->label && s->split && s->family ? DISTAC_OK : DISTAC_ENOMEM;
}

static distac_status read_class(parser *p, const char *text, size_t length) {
    if (p->classes == p->sheet->classes || length == 0 || length > 64 || memchr(text, 0, length))
        return wrong(p, "a class too many or without a name in %s line %d");
    char *name = di_new(length + 1);
    if (!name) return DISTAC_ENOMEM;
    memcpy(name, text, length);
    p->sheet->names[p->classes++] = name;
    return DISTAC_OK;
}

static distac_status read_family(parser *p, const char *text, size_t length) {
    int64_t split = -1;
    bool good = take_hash(&text, &length, &p->family) && starts(&text, &length, " ") &&
                take_number(&text, &length, &split) && split <= 2 && starts(&text, &length, " ");
    if (!good) return wrong(p, "wanted \"family HASH SPLIT NAME\" in %s line %d");
    p->split = (int)split;
    return DISTAC_OK;
}

static distac_status read_face(parser *p, const char *text, size_t length) {
    di_sheet *s = p->sheet;
    if (p->split < 0) return wrong(p, "a face before the first family in %s line %d");
    while (length > 0) {
        int64_t first = 0, last;
        bool good = starts(&text, &length, " ") && take_number(&text, &length, &first);
        last = first;
        if (good && starts(&text, &length, "-")) good = take_number(&text, &length, &last);
        if (!good || first > last || last >= s->classes)
            return wrong(p, "wanted classes \"0-9 12\" in %s line %d");
        for (int64_t c = first; c <= last; c++) {
            if (p->glyphs == s->glyphs) return wrong(p, "more glyphs than the first line says in %s line %d");
            s->label[p->glyphs] = (int32_t)c;
            s->split[p->glyphs] = (uint8_t)p->split;
            s->family[p->glyphs++] = p->family;
        }
    }
    return DISTAC_OK;
}

static distac_status parse(parser *p) {
    const char *text;
    size_t length;
    if (!next_line(p, &text, &length)) return wrong(p, "an empty index: %s line %d");
    DI_TRY(read_first(p, text, length));
    while (next_line(p, &text, &length)) {
        distac_status status;
        if (starts(&text, &length, "class "))
            status = read_class(p, text, length);
        else if (starts(&text, &length, "family "))
            status = read_family(p, text, length);
        else if (starts(&text, &length, "face"))
            status = read_face(p, text, length);
        else
            status = wrong(p, "wanted class, family or face in %s line %d");
        DI_TRY(status);
    }
    if (p->classes != p->sheet->classes || p->glyphs != p->sheet->glyphs)
        return wrong(p, "fewer classes or glyphs than the first line says in %s, which ends at line %d");
    return DISTAC_OK;
}

/* One cell of the picture to 32x32. */
static distac_status cut(const parser *p, const distac_image *image, int64_t index, uint8_t *out) {
    int32_t cell = (int32_t)p->cell;
    int64_t x = index % p->columns * cell, y = index / p->columns * cell;
    uint8_t small[DI_CELL * DI_CELL], large[24 * 24];
    for (int32_t r = 0; r < cell; r++)
        memcpy(small + r * cell, image->pixels + (y + r) * image->width + x, (size_t)cell);
    if (cell == DI_CELL) {
        memcpy(out, small, sizeof small);
        return DISTAC_OK;
    }
    const di_geometry whole = {
        .box_width = cell, .box_height = cell, .width = 24, .height = 24, .window_width = 24, .window_height = 24};
    DI_TRY(di_resample(image->context, 1, cell, cell, small, &whole, false, large));
    memset(out, 0, DI_CELL * DI_CELL);
    for (int r = 0; r < 24; r++) memcpy(out + (r + 4) * DI_CELL + 4, large + 24 * r, 24);
    return DISTAC_OK;
}

static distac_status read_pixels(parser *p, const char *png) {
    di_sheet *s = p->sheet;
    distac_image *image;
    DI_TRY(distac_image_load(s->context, png, 1, &image));
    distac_status status = DISTAC_OK;
    int64_t rows = (s->glyphs + p->columns - 1) / p->columns;
    if (image->width != p->columns * p->cell || image->height != rows * p->cell)
        status = di_fail_at(DISTAC_EFORMAT, "glyph sheet", "%s is %d x %d pixels, its index wants %lld x %lld",
                            png, image->width, image->height, (long long)(p->columns * p->cell),
                            (long long)(rows * p->cell));
    if (status == DISTAC_OK) {
        s->bytes = (size_t)s->glyphs * DI_CELL * DI_CELL;
        s->pixels = di_alloc(s->context, s->bytes);
        if (!s->pixels) status = DISTAC_ENOMEM;
    }
    for (int64_t i = 0; i < s->glyphs && status == DISTAC_OK; i++)
        status = cut(p, image, i, s->pixels + i * DI_CELL * DI_CELL);
    distac_image_release(image);
    return status;
}

static distac_status read_sheet(distac_context *context, const char *root, const char *name, di_sheet *sheet) {
    di_text path = {.bytes = NULL}, png = {.bytes = NULL};
    uint8_t *bytes = NULL;
    size_t count = 0;
    /* root may be the benchmark's folder or the sheets' own */
    di_text_add(&path, "%s/sheets", root);
    const char *folder = !path.failed && distac_path_kind(path.bytes) == 2 ? "/sheets" : "";
    di_text_free(&path);
    di_text_add(&path, "%s%s/%s.txt", root, folder, name);
    di_text_add(&png, "%s%s/%s.png", root, folder, name);
    distac_status status = path.failed || png.failed ? di_fail(DISTAC_ENOMEM, "no memory for a path") : DISTAC_OK;
    if (status == DISTAC_OK) status = di_read_file(context, path.bytes, 1 << 24, &bytes, &count);
    if (status == DISTAC_OK) {
        const char *text = (const char *)bytes;
        parser p = {.path = path.bytes, .at = text, .end = text + count, .sheet = sheet, .split = -1};
        status = parse(&p);
        if (status == DISTAC_OK) status = read_pixels(&p, png.bytes);
        di_free(context, bytes, count);
    }
    di_text_free(&path);
    di_text_free(&png);
    return status;
}

distac_status di_sheet_open(distac_context *context, const char *root, const char *name, di_sheet **out) {
    di_sheet *sheet = di_new(sizeof *sheet);
    if (!sheet) return DISTAC_ENOMEM;
    sheet->context = context;
    di_context_retain(context);
    distac_status status = read_sheet(context, root, name, sheet);
    if (status != DISTAC_OK) {
        di_sheet_close(sheet);
        return status;
    }
    *out = sheet;
    return DISTAC_OK;
}

void di_sheet_close(di_sheet *sheet) {
    if (!sheet) return;
    for (int64_t c = 0; sheet->names && c < sheet->classes; c++) free(sheet->names[c]);
    free(sheet->names);
    free(sheet->label);
    free(sheet->split);
    free(sheet->family);
    if (sheet->pixels) di_free(sheet->context, sheet->pixels, sheet->bytes);
    distac_context_release(sheet->context);
    free(sheet);
}
