/* sets.h: the data sets of the eight CLIP tasks: one set_NAME.c each, one line in sets.c. A reader finds the files
 * of one part in a layout that people have on disk and gives samples that are decoded when asked for; names, split
 * and limits are the same for all and live in sets.c. */
#ifndef DISTAC_SETS_H
#define DISTAC_SETS_H

#include "data.h"

/* ---- lists of files (listing.c) ---- */
typedef struct di_listing {
    char **files;
    int64_t *labels;
    int64_t count, capacity;
} di_listing;
/* Takes over path (NULL: it could not be made), whatever happens. */
distac_status di_listing_add(di_listing *list, char *path, int64_t label);
/* Adds the images of a folder and of the folders in it: folders by path, in each of them files by name (bytes). */
distac_status di_listing_walk(di_listing *list, const char *folder, int64_t label);
/* By label, then in the order of a walk. */
distac_status di_listing_sort(di_listing *list);
void di_listing_free(di_listing *list);
/* By ending: an image that is read; one of a format that is not. */
bool di_is_image(const char *name);
bool di_is_foreign_image(const char *name);
/* FOLDER/NAME, free() it; NULL with the error set without memory. */
char *di_join(const char *folder, const char *name);
/* BASE/PATH with the letter case that is on disk (as written where that exists); NULL if it is not there as a file
 * (kind 1) or folder (kind 2), or without memory. free() it. */
char *di_find(const char *base, const char *path, int32_t kind);
/* The first of NULL-ended paths that is there. */
char *di_find_first(const char *base, const char *const *paths, int32_t kind);
/* The folders in a folder, sorted, hidden ones left out. */
distac_status di_subfolders(const char *folder, distac_strings **out);
/* Every line of a text file that is not empty, without its end and the blanks around it. A line may not leave the
 * data set's folder: no "..", no zero bytes. */
typedef distac_status (*di_line)(void *arg, const char *path, int64_t number, char *line);
distac_status di_each_line(distac_context *context, const char *path, di_line work, void *arg);
/* Is this a relative path that stays below where it starts? */
bool di_stays_below(const char *path);

/* ---- sets ---- */
enum { DI_PART_TRAIN, DI_PART_VALIDATION, DI_PART_TEST };

typedef struct di_set {
    const char *name;
    const char *const *folders; /* names under the root, NULL-ended, any letter case */
    const char *layout;         /* what is looked for, for the error text */
    int64_t classes;
    int64_t train, validation, test; /* samples as published; validation 0: it is split off the training part */
    const char *const *names;        /* [classes] as the heads name them; NULL: the reader names them */
    /* The samples of a part below home; DISTAC_ENOTFOUND if its files are not there. */
    distac_status (*open)(distac_context *context, const char *home, int part, int32_t size, di_samples **out);
} di_set;

extern const di_set di_set_cars, di_set_dtd, di_set_eurosat, di_set_gtsrb, di_set_mnist, di_set_resisc45,
    di_set_sun397, di_set_svhn;

extern const char *const di_set_digits[10]; /* names of the classes of two of them */

/* Takes the files and labels of a listing; it is emptied. RGB, size x size. */
distac_status di_set_samples(distac_context *context, di_listing *list, int64_t classes, int32_t size,
                             di_samples **out);
/* Class folders below folder whose labels are their places in known[classes]; another folder is a mistake. */
distac_status di_set_walk(distac_context *context, const char *folder, int64_t classes, const char *const *known,
                          int32_t size, di_samples **out);
/* The label of a class folder's name, -1 with the error set (it names the path and the nearest name). */
int64_t di_set_label(const char *path, const char *name, int64_t classes, const char *const *known);
/* Images [N,h,w,c] of their own size in memory, which are fitted when asked for. Takes over a reference to raw and
 * labels (free), whatever happens. */
distac_status di_set_arrays(distac_context *context, distac_tensor *raw, int64_t *labels, int64_t classes,
                            int32_t size, di_samples **out);

/* ---- splits (split.c) ---- */
/* The permutation of 0..n-1 that PyTorch's CPU randperm gives for a seed. */
void di_randperm(uint32_t seed, int64_t n, int64_t *out);
/* How many of n training samples are the validation part: a tenth, at most 5000. */
int64_t di_validation_count(int64_t n);

#endif
