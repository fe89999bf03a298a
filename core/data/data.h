/* data.h: images, samples and data sets inside core/. A data set is a view (an order of samples and a
 * normalisation) of samples that are shared: pixels in memory, or files that are decoded when asked for. */
#ifndef DISTAC_DATA_H
#define DISTAC_DATA_H

#include "../backend/pixels.h"
#include "../tensor/tensor.h"

/* ---- reading files (read.c) ---- */
/* A regular file read from front to end through one descriptor; its size is the operating system's. */
typedef struct di_reader {
    int fd;
    uint64_t bytes, offset;
    int64_t seconds, nanoseconds; /* of the last change, to notice one while reading */
    const char *path;             /* the caller's */
} di_reader;
distac_status di_reader_open(const char *path, di_reader *out);
/* Reads at most count bytes; *got is less only at the end of the file. */
distac_status di_reader_get(di_reader *reader, void *bytes, size_t count, size_t *got);
/* Fails if the file changed since it was opened. */
distac_status di_reader_check(const di_reader *reader);
void di_reader_close(di_reader *reader);
/* A whole file of at most `limit` bytes, from di_alloc: free it with di_free(context, *bytes, *count). */
distac_status di_read_file(distac_context *context, const char *path, uint64_t limit, uint8_t **bytes,
                           size_t *count);

/* ---- images (image.c, png.c, jpeg.c, pnm.c) ---- */
#define DI_IMAGE_SIDE   1000000             /* pixels along one side */
#define DI_IMAGE_PIXELS 134217728           /* pixels in all: checked before anything is inflated */
#define DI_IMAGE_FILE   ((uint64_t)1 << 30) /* bytes of an image file */

struct distac_image {
    atomic_int refs;
    distac_context *context;
    int32_t width, height, channels;
    uint8_t *pixels; /* rows of interleaved channels */
    size_t bytes;
};
distac_status di_image_new(distac_context *context, int32_t width, int32_t height, int32_t channels,
                           distac_image **out);
/* [new] Grey <-> RGB; the same image if it has the channels already. */
distac_status di_image_convert(distac_image *image, int32_t channels, distac_image **out);
/* Decodes a file in memory, whose content says what it is; name is for the error text. channels as
 * distac_image_load. Errors: EFORMAT, EUNSUPPORTED, ENOMEM. */
distac_status di_image_decode(distac_context *context, const char *name, const uint8_t *bytes, size_t count,
                              int32_t channels, distac_image **out);
/* The same for one format. */
distac_status di_png_decode(distac_context *context, const char *name, const uint8_t *bytes, size_t count,
                            int32_t channels, distac_image **out);
distac_status di_jpeg_decode(distac_context *context, const char *name, const uint8_t *bytes, size_t count,
                             int32_t channels, distac_image **out);
distac_status di_pnm_decode(distac_context *context, const char *name, const uint8_t *bytes, size_t count,
                            int32_t channels, distac_image **out);

/* A JPEG file in memory, row by row. */
typedef struct di_jpeg di_jpeg;
distac_status di_jpeg_open(distac_context *context, const char *name, const uint8_t *bytes, size_t count,
                           di_jpeg **out);
int32_t di_jpeg_width(const di_jpeg *jpeg);
int32_t di_jpeg_height(const di_jpeg *jpeg);
int32_t di_jpeg_channels(const di_jpeg *jpeg); /* 1 or 3 */
/* Once: gives the sink columns x0 … x1-1 of rows y0 … y1-1 in order; DI_ROW_PAD more bytes of a row can be read.
 */
typedef void (*di_row_sink)(void *arg, int32_t y, const uint8_t *row);
distac_status di_jpeg_rows(di_jpeg *jpeg, int32_t x0, int32_t x1, int32_t y0, int32_t y1, di_row_sink sink,
                           void *arg);
void di_jpeg_close(di_jpeg *jpeg);

/* ---- geometry (resample.c, crop.c, pipeline.c) ---- */
/* A box of an image is resized, and a window of the result is kept. */
typedef struct di_geometry {
    int32_t x, y, box_width, box_height; /* pixels of the image */
    int32_t width, height;               /* of the whole resized box */
    int32_t left, top, window_width, window_height;
} di_geometry;
/* Resizing of rows that come one after another. */
typedef struct di_resizer {
    distac_context *context;
    const di_pixels *kernels;
    int32_t channels, width, height, rows;
    int32_t x0, x1, y0, y1; /* of the image: what is needed */
    bool planar;            /* the result is [C,H,W], else [H,W,C] */
    di_taps across, down;
    uint8_t *middle; /* [rows] resized across */
    size_t middle_bytes;
} di_resizer;
distac_status di_resizer_open(distac_context *context, int32_t channels, const di_geometry *geometry, bool planar,
                              di_resizer *resizer);
/* Row y (y0 … y1-1), from column x0 on; a di_row_sink. */
void di_resizer_row(void *resizer, int32_t y, const uint8_t *row);
void di_resizer_finish(di_resizer *resizer, uint8_t *dst);
void di_resizer_close(di_resizer *resizer);
/* The same for pixels in memory. */
distac_status di_resample(distac_context *context, int32_t channels, int32_t image_width, int32_t image_height,
                          const uint8_t *pixels, const di_geometry *geometry, bool planar, uint8_t *dst);

/* What is done to an image of a data set: the evaluation's fit, or a random crop of training. */
typedef struct di_sample_plan {
    int32_t size, channels; /* of the result: [channels,size,size] */
    bool crop;              /* a random crop, by desc, seed and stream */
    distac_crop_desc desc;
    uint64_t seed, stream;
} di_sample_plan;
/* The geometry of distac_image_fit and of distac_image_random_crop. */
distac_status di_fit_geometry(int32_t width, int32_t height, int32_t size, di_geometry *out);
distac_status di_crop_geometry(int32_t width, int32_t height, const distac_crop_desc *desc, uint64_t seed,
                               uint64_t stream, int32_t size, di_geometry *out);
/* Bytes of an image file to planes [channels,size,size], in one pass where the format allows it; the same bits as
 * distac_image_load with these channels followed by distac_image_fit or distac_image_random_crop. name is for
 * error texts. Safe to call from many threads at once. Errors: EFORMAT, EUNSUPPORTED, ENOMEM, EINVAL (the plan).
 */
distac_status di_image_sample(distac_context *context, const char *name, const uint8_t *bytes, size_t count,
                              const di_sample_plan *plan, uint8_t *planes);

/* ---- samples and data sets (dataset.c, sample.c) ---- */
#define DI_CLASSES       ((int64_t)1 << 20)   /* most classes of a data set */
#define DI_FOLDER_MEMORY ((int64_t)512 << 20) /* bytes of decoded images that a folder keeps in memory */

typedef struct di_samples {
    atomic_int refs;
    distac_context *context;
    int64_t count, classes;
    int32_t channels, height, width;
    distac_tensor *pixels; /* U8 [N,C,H,W]; NULL: made of raw or of the files when asked for */
    distac_tensor *raw;    /* U8 [N,h,w,c]: images of their own size, or NULL */
    char **files;          /* [N] or NULL */
    int64_t *labels;       /* [N]; NULL: unlabelled */
    char **names;          /* [classes] */
    struct di_pack *packs[2]; /* decoded images on disk: fitted ones, originals (pack.h) */
    uint8_t *there;           /* pixels on the device that computes models; NULL: not yet, or refused (there.c) */
    size_t there_bytes;
    bool refused;
} di_samples;

/* A random crop: which one is drawn is a function of all of it. */
typedef struct di_sample_crop {
    distac_crop_desc desc;
    uint64_t seed, stream;
} di_sample_crop;

struct distac_dataset {
    atomic_int refs;
    di_samples *samples;
    int64_t size;
    int64_t *order;     /* [size] positions in samples; NULL: all, in order */
    double *mean, *std; /* [channels] */
};
/* What a data set is apart from its samples, into a hash. */
void di_dataset_hash_form(const distac_dataset *dataset, di_sha256 *hash);

struct distac_loader {
    atomic_int refs;
    distac_dataset *dataset;
    int64_t batch;
    uint64_t seed;
    int64_t epoch[2];  /* of the permutations kept, -1: none yet */
    int64_t *order[2]; /* [size] each; epoch e is in e % 2 */
    bool cropped;
    distac_crop_desc crops;
    struct di_prefetch *prefetch; /* NULL: batches are made when asked for */
};

/* Empty samples of a shape, with class names "0", "1", … (classes 0: none). Pixels, files and labels are for
 * the caller to fill in. */
distac_status di_samples_new(distac_context *context, int64_t count, int64_t classes, int32_t channels,
                             int32_t height, int32_t width, di_samples **out);
void di_samples_release(di_samples *samples);
/* Replaces the name of a class. */
distac_status di_samples_name(di_samples *samples, int64_t class_index, const char *name);
/* Takes over the reference to samples, whatever happens. */
distac_status di_dataset_wrap(di_samples *samples, distac_dataset **out);
/* Pixels [n,C,H,W] as bytes of the samples at dataset positions list[0..n-1] (list NULL: start, start+1, …). */
distac_status di_dataset_bytes(const distac_dataset *dataset, int64_t start, int64_t n, const int64_t *list,
                               uint8_t *out);
/* The same, normalised, F32. crops: [n] random crops, or NULL. */
distac_status di_dataset_floats(const distac_dataset *dataset, int64_t start, int64_t n, const int64_t *list,
                                const di_sample_crop *crops, float *out);
/* n images that are there as bytes, normalised. */
distac_status di_dataset_normalized(const distac_dataset *dataset, int64_t n, const uint8_t *planes, float *out);

/* ---- where models compute (there.c): [new] images, NULL (and
 * OK) where the way over the host has to be taken ---- */
/* Of samples whose pixels lie in memory, and from then on on the device. list as for di_dataset_bytes. */
distac_status di_images_held(const distac_dataset *dataset, int64_t start, int64_t n, const int64_t *list,
                             distac_tensor **out);
/* Of bytes that were sent (di_prefetch_sending). */
distac_status di_images_sent(const distac_dataset *dataset, int64_t n, void *sending, distac_tensor **out);
/* Of bytes on the host. */
distac_status di_images_of_planes(const distac_dataset *dataset, int64_t n, const uint8_t *planes,
                                  distac_tensor **out);
void di_samples_forget_there(di_samples *samples);

/* ---- reading ahead (prefetch.c) ---- */
/* What a batch is made of: samples by their position, and how they are cropped. */
typedef struct di_batch {
    di_samples *samples; /* a reference */
    int64_t *positions;  /* [n] */
    bool cropped;
    di_sample_crop *crops; /* [n] */
} di_batch;
typedef struct di_prefetch di_prefetch;
/* Fills in batch `step`: arrays have room for n. Called by the thread that asks for batches. */
typedef distac_status (*di_batch_plan)(void *arg, int64_t step, di_batch *batch);
distac_status di_prefetch_create(distac_context *context, int32_t workers, int32_t ahead, int64_t n, size_t bytes,
                                 di_batch_plan plan, void *arg, di_prefetch **out);
/* Planes [n][bytes] of batch `step`, valid until the next call. */
distac_status di_prefetch_get(di_prefetch *prefetch, int64_t step, const uint8_t **planes);
/* What takes batch `step`, just got, to the device that models are computed on; NULL: there is none, or no room
 * for it. Its start is given as early as its samples are there, for the batch after it too. */
distac_status di_prefetch_sending(di_prefetch *prefetch, int64_t step, void **sending);
/* Forgets what was read ahead: the plan has changed. */
void di_prefetch_reset(di_prefetch *prefetch);
void di_prefetch_destroy(di_prefetch *prefetch);
/* Planes [C,H,W] of sample `index`, from wherever its pixels are (sample.c): fitted (crop NULL), or a random crop
 * of the original. Safe to call from many threads at once. */
distac_status di_samples_planes(const di_samples *samples, int64_t index, const di_sample_crop *crop,
                                uint8_t *planes);
size_t di_samples_bytes(const di_samples *samples); /* of one sample's planes */
/* distac_dataset_folder with another limit on what is kept in memory. */
distac_status di_folder_open(distac_context *context, const char *path, int32_t size, int32_t channels,
                             int64_t memory, distac_dataset **out);

/* Runs work(arg, i) for i in 0..n-1 on the context's threads in pieces, with progress and cancelling. The error
 * reported is that of the smallest failing i, whatever the number of threads. what NULL: no progress. */
typedef distac_status (*di_work)(void *arg, int64_t index);
distac_status di_parallel_try(distac_context *context, const char *what, int64_t n, di_work work, void *arg);

#endif
