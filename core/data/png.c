/* png.c: PNG files to pixels and back, through libpng. Of libpng's reader only the row decoder is used: 16 to 8
 * bits (high byte), unpacking of small samples, interlacing. Palettes are looked up here, with every index
 * checked, alpha is dropped, ancillary chunks are skipped unread, warnings about them are ignored.
 *
 * libpng leaves by longjmp. What must survive that lives in one struct of the caller, so that nothing leaks and
 * no local variable is read after the jump. */
#include "data.h"
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

typedef struct coder {
    png_structp png;
    png_infop info;
    char reason[160];
    bool no_memory; /* libpng's reasons tell that in many ways */
    /* reading */
    const uint8_t *bytes;
    size_t count, offset;
    uint8_t *raw; /* rows as libpng gives them */
    size_t raw_bytes, row_bytes;
    uint32_t width, height;
    int kind, depth, planes; /* colour type; planes: samples a pixel in raw */
    int colours;             /* of the palette */
    png_color palette[256];
    distac_context *context;
    /* writing */
    const distac_image *image;
    di_writer *writer;
    distac_status status; /* of the writer */
} coder;

static void on_error(png_structp png, png_const_charp text) {
    coder *c = png_get_error_ptr(png);
    size_t n = 0;
    for (; text[n] && n + 1 < sizeof c->reason; n++)
        c->reason[n] =
            (char)(text[n] >= ' ' && text[n] < 127 ? text[n] : '?'); /* chunk names come from the file */
    c->reason[n] = 0;
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text) {
    (void)png;
    (void)text;
}

static distac_status failed(const coder *c, distac_status status, const char *function, const char *name) {
    return di_fail_at(c->no_memory ? DISTAC_ENOMEM : status, function, "%s: %s", name, c->reason);
}

static png_voidp on_malloc(png_structp png, png_alloc_size_t bytes) {
    coder *c = png_get_mem_ptr(png);
    void *memory = di_grow(NULL, bytes);
    if (!memory) c->no_memory = true;
    return memory;
}

static void on_free(png_structp png, png_voidp memory) {
    (void)png;
    free(memory);
}

/* ---- reading ---- */

static void take(png_structp png, png_bytep out, size_t count) {
    coder *c = png_get_io_ptr(png);
    if (count > c->count - c->offset) png_error(png, "the file ends too early");
    memcpy(out, c->bytes + c->offset, count);
    c->offset += count;
}

static bool read_header(coder *c) {
    if (setjmp(png_jmpbuf(c->png))) return false;
    png_set_read_fn(c->png, c, take);
    png_set_user_limits(c->png, DI_IMAGE_SIDE, DI_IMAGE_SIDE);
    png_set_crc_action(c->png, PNG_CRC_ERROR_QUIT, PNG_CRC_WARN_DISCARD);
    png_set_keep_unknown_chunks(c->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_keep_unknown_chunks(c->png, PNG_HANDLE_CHUNK_NEVER, (png_const_bytep) "tRNS", 1);
    png_read_info(c->png, c->info);
    c->width = png_get_image_width(c->png, c->info);
    c->height = png_get_image_height(c->png, c->info);
    c->kind = png_get_color_type(c->png, c->info);
    c->depth = png_get_bit_depth(c->png, c->info);
    c->planes = png_get_channels(c->png, c->info);
    if (c->kind == PNG_COLOR_TYPE_PALETTE) {
        png_colorp entries = NULL;
        if (!png_get_PLTE(c->png, c->info, &entries, &c->colours) || !entries || c->colours > 256)
            png_error(c->png, "the palette is missing");
        memcpy(c->palette, entries, (size_t)c->colours * sizeof *entries);
    }
    return true;
}

/* Refuses by size before anything is inflated or allocated. */
static distac_status plan(coder *c, const char *name) {
    uint64_t pixels = (uint64_t)c->width * c->height;
    if (pixels > DI_IMAGE_PIXELS)
        return di_fail_at(DISTAC_EFORMAT, "distac_image_load", "%s: %u x %u pixels, more than the limit of %d",
                          name, c->width, c->height, DI_IMAGE_PIXELS);
    uint64_t stored = ((uint64_t)c->width * (uint64_t)(c->depth * c->planes) + 7) / 8 * c->height;
    if (stored / 1032 > c->count) /* deflate cannot shrink more than that */
        return di_fail_at(DISTAC_EFORMAT, "distac_image_load", "%s: %u x %u pixels cannot come out of %zu bytes",
                          name, c->width, c->height, c->count);
    c->row_bytes = (size_t)c->width * (size_t)c->planes;
    c->raw_bytes = c->row_bytes * c->height;
    c->raw = di_alloc(c->context, c->raw_bytes);
    return c->raw ? DISTAC_OK : DISTAC_ENOMEM;
}

static bool read_rows(coder *c) {
    if (setjmp(png_jmpbuf(c->png))) return false;
    if (c->depth == 16) png_set_strip_16(c->png);
    if (c->depth < 8) {
        if (c->kind == PNG_COLOR_TYPE_GRAY)
            png_set_expand_gray_1_2_4_to_8(c->png);
        else
            png_set_packing(c->png);
    }
    int passes = png_set_interlace_handling(c->png);
    png_read_update_info(c->png, c->info);
    if (png_get_rowbytes(c->png, c->info) != c->row_bytes) png_error(c->png, "rows have an unexpected size");
    for (int pass = 0; pass < passes; pass++)
        for (uint32_t y = 0; y < c->height; y++) png_read_row(c->png, c->raw + y * c->row_bytes, NULL);
    png_read_end(c->png, NULL);
    return true;
}

/* Raw rows to grey or RGB. */
static distac_status finish(const coder *c, const char *name, int32_t channels, distac_image **out) {
    bool palette = c->kind == PNG_COLOR_TYPE_PALETTE;
    bool colour = palette || (c->kind & PNG_COLOR_MASK_COLOR) != 0;
    distac_image *image;
    DI_TRY(di_image_new(c->context, (int32_t)c->width, (int32_t)c->height, colour ? 3 : 1, &image));
    size_t pixels = (size_t)c->width * c->height, step = (size_t)c->planes;
    uint8_t *dst = image->pixels;
    for (size_t i = 0; i < pixels; i++) {
        const uint8_t *src = c->raw + i * step;
        if (palette) {
            if (*src >= c->colours) {
                distac_image_release(image);
                return di_fail_at(DISTAC_EFORMAT, "distac_image_load",
                                  "%s: pixel %zu has palette index %d, the palette has %d entries", name, i, *src,
                                  c->colours);
            }
            *dst++ = c->palette[*src].red;
            *dst++ = c->palette[*src].green;
            *dst++ = c->palette[*src].blue;
        } else {
            *dst++ = src[0];
            if (colour) {
                *dst++ = src[1];
                *dst++ = src[2];
            }
        }
    }
    if (channels == 0) channels = image->channels;
    distac_status status = di_image_convert(image, channels, out);
    distac_image_release(image);
    return status;
}

static distac_status decode(coder *c, const char *name, int32_t channels, distac_image **out) {
    c->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, c, on_error, on_warning, c, on_malloc, on_free);
    c->info = c->png ? png_create_info_struct(c->png) : NULL;
    if (!c->info) return di_fail_at(DISTAC_ENOMEM, "distac_image_load", "%s: no memory for the PNG reader", name);
    if (!read_header(c)) return failed(c, DISTAC_EFORMAT, "distac_image_load", name);
    DI_TRY(plan(c, name));
    if (!read_rows(c)) return failed(c, DISTAC_EFORMAT, "distac_image_load", name);
    return finish(c, name, channels, out);
}

distac_status di_png_decode(distac_context *context, const char *name, const uint8_t *bytes, size_t count,
                            int32_t channels, distac_image **out) {
    static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    if (count < sizeof signature || memcmp(bytes, signature, sizeof signature) != 0)
        return di_fail_at(DISTAC_EFORMAT, "distac_image_load", "%s: not a PNG file (wrong first 8 bytes)", name);
    coder c = {.bytes = bytes, .count = count, .context = context};
    distac_status status = decode(&c, name, channels, out);
    if (c.png) png_destroy_read_struct(&c.png, &c.info, NULL);
    if (c.raw) di_free(context, c.raw, c.raw_bytes);
    return status;
}

/* ---- writing ---- */

static void give(png_structp png, png_bytep bytes, size_t count) {
    coder *c = png_get_io_ptr(png);
    c->status = di_writer_put(c->writer, bytes, count);
    if (c->status != DISTAC_OK) png_error(png, "the file cannot be written");
}

static void give_all(png_structp png) {
    (void)png; /* the writer flushes when it commits */
}

static bool write_rows(coder *c) {
    if (setjmp(png_jmpbuf(c->png))) return false;
    png_set_write_fn(c->png, c, give, give_all);
    png_set_IHDR(c->png, c->info, (png_uint_32)c->image->width, (png_uint_32)c->image->height, 8,
                 c->image->channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(c->png, c->info);
    size_t row = (size_t)c->image->width * (size_t)c->image->channels;
    for (int32_t y = 0; y < c->image->height; y++) png_write_row(c->png, c->image->pixels + (size_t)y * row);
    png_write_end(c->png, NULL);
    return true;
}

distac_status distac_image_save(const distac_image *image, const char *path) {
    DI_REQUIRE(image && path, "image and path are needed");
    coder c = {.image = image, .context = image->context};
    DI_TRY(di_writer_open(path, &c.writer));
    c.png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &c, on_error, on_warning, &c, on_malloc, on_free);
    c.info = c.png ? png_create_info_struct(c.png) : NULL;
    distac_status status = DISTAC_OK;
    if (!c.info)
        status = di_fail(DISTAC_ENOMEM, "%s: no memory for the PNG writer", path);
    else if (!write_rows(&c))
        status = c.status != DISTAC_OK ? c.status : failed(&c, DISTAC_EIO, __func__, path);
    if (c.png) png_destroy_write_struct(&c.png, &c.info);
    if (status != DISTAC_OK) {
        di_writer_abort(c.writer);
        return status;
    }
    return di_writer_commit(c.writer);
}
