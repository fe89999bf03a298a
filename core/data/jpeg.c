/* jpeg.c: JPEG files to rows of grey or RGB bytes, through libjpeg-turbo: baseline, extended and progressive
 * Huffman coding, 1, 3 or 4 components. The arithmetic is that of Pillow (slow integer transform, smooth
 * upsampling), so the bits are too. CMYK and YCCK are taken as Adobe writes them, inverted. EXIF orientation,
 * colour profiles and whatever follows the end marker are ignored.
 *
 * A file is whole or it is refused: truncation, damaged entropy data, restart markers out of place. Stray bytes
 * between segments and odd version numbers change no pixel and are let pass. The entropy-coded data are read to
 * the end whatever window of the picture is wanted, so that the verdict does not depend on the window.
 *
 * libjpeg leaves by longjmp. What must survive that lives in di_jpeg, and a function that calls setjmp has no
 * local variable that is read after the jump. */
#include "data.h"
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

enum { SCANS = 100, ROWS = 16 };

struct di_jpeg {
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf leave;
    char reason[JMSG_LENGTH_MAX];
    int code; /* libjpeg's number of the failure, 0: ours */
    bool created;
    distac_context *context;
    const char *name;
    /* reading rows */
    int32_t x0, x1, y0, y1, left; /* left: column of the picture where decoded rows begin */
    uint8_t *rows;
    size_t row_bytes, rows_bytes;
    di_row_sink sink;
    void *arg;
};

/* ---- libjpeg's callbacks ---- */

static void copy_reason(di_jpeg *j, const char *text) {
    size_t n = 0;
    for (; text[n] && n + 1 < sizeof j->reason; n++)
        j->reason[n] = (char)(text[n] >= ' ' && text[n] < 127 ? text[n] : '?');
    j->reason[n] = 0;
}

static _Noreturn void leave_with(di_jpeg *j, const char *text) {
    copy_reason(j, text);
    j->code = 0;
    longjmp(j->leave, 1);
}

static _Noreturn void on_error(j_common_ptr info) {
    di_jpeg *j = info->client_data;
    char text[JMSG_LENGTH_MAX];
    info->err->format_message(info, text);
    copy_reason(j, text);
    j->code = info->err->msg_code;
    longjmp(j->leave, 1);
}

/* Traces have levels from 0, warnings -1. Those that leave the pixels as they were meant are let pass. */
static void on_message(j_common_ptr info, int level) {
    if (level >= 0) return;
    int code = info->err->msg_code;
    if (code == JWRN_EXTRANEOUS_DATA || code == JWRN_JFIF_MAJOR || code == JWRN_ADOBE_XFORM) return;
    on_error(info);
}

static void print_nothing(j_common_ptr info) {
    (void)info;
}

static void source_nothing(j_decompress_ptr info) {
    (void)info;
}

static boolean source_ends(j_decompress_ptr info) {
    leave_with(info->client_data, "the file ends too early (no end marker)");
}

static void source_skip(j_decompress_ptr info, long count) {
    if (count <= 0) return;
    if ((size_t)count > info->src->bytes_in_buffer)
        leave_with(info->client_data, "the file ends inside a segment");
    info->src->next_input_byte += count;
    info->src->bytes_in_buffer -= (size_t)count;
}

/* A small file can hold very many empty scans of a large picture. */
static void watch(j_common_ptr info) {
    if (((j_decompress_ptr)info)->input_scan_number > SCANS) leave_with(info->client_data, "more than 100 scans");
}

static distac_status failure(const di_jpeg *j) {
    distac_status status = DISTAC_EFORMAT;
    if (j->code == JERR_OUT_OF_MEMORY || j->code == JERR_NO_BACKING_STORE || j->code == JERR_WIDTH_OVERFLOW)
        status = DISTAC_ENOMEM;
    else if (j->code == JERR_SOF_UNSUPPORTED || j->code == JERR_BAD_PRECISION)
        status = DISTAC_EUNSUPPORTED;
    return di_fail_at(status, "distac_image_load", "%s: JPEG: %s", j->name, j->reason);
}

/* ---- the header ---- */

static bool read_header(di_jpeg *j) {
    if (setjmp(j->leave)) return false;
    j->info.client_data = j; /* it may fail at once, and then has something to destroy */
    j->created = true;
    jpeg_create_decompress(&j->info);
    j->info.src = &j->source;
    j->info.progress = &j->progress;
    jpeg_read_header(&j->info, TRUE);
    return true;
}

/* libjpeg keeps all coefficients of a progressive picture; they count against the context's limit. */
static void limit_memory(di_jpeg *j) {
    long long limit = atomic_load(&j->context->memory_limit), used = atomic_load(&j->context->memory_used);
    long long most = (long long)DI_IMAGE_PIXELS * 10;
    if (limit > 0 && limit - used < most) most = limit - used > 1 ? limit - used : 1;
    j->info.mem->max_memory_to_use = (long)most;
}

/* Refuses by size and kind before anything is decoded. */
static distac_status check_header(di_jpeg *j, size_t count) {
    const struct jpeg_decompress_struct *info = &j->info;
    uint64_t pixels = (uint64_t)info->image_width * info->image_height;
    if (info->arith_code)
        return di_fail_at(DISTAC_EUNSUPPORTED, "distac_image_load",
                          "%s: JPEG: arithmetic coding is not read, only Huffman coding", j->name);
    if (info->num_components != 1 && info->num_components != 3 && info->num_components != 4)
        return di_fail_at(DISTAC_EUNSUPPORTED, "distac_image_load", "%s: JPEG: %d components; 1, 3 and 4 are read",
                          j->name, info->num_components);
    if (pixels > DI_IMAGE_PIXELS)
        return di_fail_at(DISTAC_EFORMAT, "distac_image_load", "%s: %u x %u pixels, more than the limit of %d",
                          j->name, info->image_width, info->image_height, DI_IMAGE_PIXELS);
    if (pixels / 1024 > count) /* a block of 64 samples takes a bit at least; sampling makes it some 500 pixels */
        return di_fail_at(DISTAC_EFORMAT, "distac_image_load", "%s: %u x %u pixels cannot come out of %zu bytes",
                          j->name, info->image_width, info->image_height, count);
    limit_memory(j);
    return DISTAC_OK;
}

distac_status di_jpeg_open(distac_context *context, const char *name, const uint8_t *bytes, size_t count,
                           di_jpeg **out) {
    di_jpeg *j = di_new(sizeof *j);
    if (!j) return DISTAC_ENOMEM;
    j->context = context;
    j->name = name;
    j->info.err = jpeg_std_error(&j->errors);
    j->info.client_data = j;
    j->errors.error_exit = on_error;
    j->errors.emit_message = on_message;
    j->errors.output_message = print_nothing;
    j->progress.progress_monitor = watch;
    j->source = (struct jpeg_source_mgr){.next_input_byte = bytes,
                                         .bytes_in_buffer = count,
                                         .init_source = source_nothing,
                                         .fill_input_buffer = source_ends,
                                         .skip_input_data = source_skip,
                                         .resync_to_restart = jpeg_resync_to_restart,
                                         .term_source = source_nothing};
    distac_status status = read_header(j) ? check_header(j, count) : failure(j);
    if (status != DISTAC_OK) {
        di_jpeg_close(j);
        return status;
    }
    *out = j;
    return DISTAC_OK;
}

void di_jpeg_close(di_jpeg *jpeg) {
    if (!jpeg) return;
    if (jpeg->created) jpeg_destroy_decompress(&jpeg->info);
    if (jpeg->rows) di_free(jpeg->context, jpeg->rows, jpeg->rows_bytes);
    free(jpeg);
}

int32_t di_jpeg_width(const di_jpeg *jpeg) {
    return (int32_t)jpeg->info.image_width;
}

int32_t di_jpeg_height(const di_jpeg *jpeg) {
    return (int32_t)jpeg->info.image_height;
}

int32_t di_jpeg_channels(const di_jpeg *jpeg) {
    return jpeg->info.num_components == 1 ? 1 : 3;
}

/* ---- rows ---- */

/* a * b / 255, rounded, as Pillow divides */
static unsigned times(unsigned a, unsigned b) {
    unsigned t = a * b + 128;
    return ((t >> 8) + t) >> 8;
}

/* In place: Adobe stores 255 - ink. */
static void cmyk_to_rgb(uint8_t *row, size_t pixels) {
    for (size_t i = 0; i < pixels; i++) {
        unsigned light = row[4 * i + 3];
        for (size_t c = 0; c < 3; c++) row[3 * i + c] = (uint8_t)(light - times(255u - row[4 * i + c], light));
    }
}

static bool start(di_jpeg *j) {
    if (setjmp(j->leave)) return false;
    j->info.out_color_space = j->info.num_components == 1   ? JCS_GRAYSCALE
                              : j->info.num_components == 3 ? JCS_RGB
                                                            : JCS_CMYK;
    jpeg_start_decompress(&j->info);
    return true;
}

static void deliver(di_jpeg *j, uint8_t *row, int32_t y) {
    size_t pixels = j->row_bytes / (size_t)j->info.output_components;
    if (j->info.num_components == 4) cmyk_to_rgb(row, pixels);
    j->sink(j->arg, y, row + (size_t)(j->x0 - j->left) * (size_t)di_jpeg_channels(j));
}

static bool pump(di_jpeg *j) {
    if (setjmp(j->leave)) return false;
    while (j->info.output_scanline < j->info.output_height) {
        JSAMPROW rows[ROWS];
        JDIMENSION first = j->info.output_scanline;
        for (size_t i = 0; i < ROWS; i++) rows[i] = j->rows + i * j->row_bytes;
        JDIMENSION n = jpeg_read_scanlines(&j->info, rows, ROWS);
        if (n == 0) leave_with(j, "no more rows");
        for (JDIMENSION i = 0; i < n; i++) {
            int32_t y = (int32_t)(first + i);
            if (y >= j->y0 && y < j->y1) deliver(j, rows[i], y);
        }
    }
    jpeg_finish_decompress(&j->info);
    return true;
}

distac_status di_jpeg_rows(di_jpeg *jpeg, int32_t x0, int32_t x1, int32_t y0, int32_t y1, di_row_sink sink,
                           void *arg) {
    jpeg->x0 = x0;
    jpeg->x1 = x1;
    jpeg->y0 = y0;
    jpeg->y1 = y1;
    jpeg->sink = sink;
    jpeg->arg = arg;
    if (!start(jpeg)) return failure(jpeg);
    jpeg->row_bytes = (size_t)jpeg->info.output_width * (size_t)jpeg->info.output_components;
    jpeg->rows_bytes = jpeg->row_bytes * ROWS + DI_ROW_PAD;
    jpeg->rows = di_alloc(jpeg->context, jpeg->rows_bytes);
    if (!jpeg->rows) return DISTAC_ENOMEM;
    return pump(jpeg) ? DISTAC_OK : failure(jpeg);
}

/* ---- a whole picture ---- */

static void keep_row(void *arg, int32_t y, const uint8_t *row) {
    distac_image *image = arg;
    size_t bytes = (size_t)image->width * (size_t)image->channels;
    memcpy(image->pixels + (size_t)y * bytes, row, bytes);
}

distac_status di_jpeg_decode(distac_context *context, const char *name, const uint8_t *bytes, size_t count,
                             int32_t channels, distac_image **out) {
    di_jpeg *jpeg;
    DI_TRY(di_jpeg_open(context, name, bytes, count, &jpeg));
    int32_t width = di_jpeg_width(jpeg), height = di_jpeg_height(jpeg);
    distac_image *image = NULL;
    distac_status status = di_image_new(context, width, height, di_jpeg_channels(jpeg), &image);
    if (status == DISTAC_OK) status = di_jpeg_rows(jpeg, 0, width, 0, height, keep_row, image);
    di_jpeg_close(jpeg);
    if (status == DISTAC_OK) status = di_image_convert(image, channels ? channels : image->channels, out);
    distac_image_release(image);
    return status;
}
