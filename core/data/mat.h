/* mat.h: MATLAB files of version 5 (the format of 6 and 7 too): variables that are numbers, logical values, text,
 * cells and structures. Bytes of a variable are kept as stored and read through functions. */
#ifndef DISTAC_MAT_H
#define DISTAC_MAT_H

#include "data.h"

enum {
    DI_MAT_CELL = 1,
    DI_MAT_STRUCT = 2,
    DI_MAT_CHAR = 4,
    DI_MAT_DOUBLE = 6,
    DI_MAT_SINGLE,
    DI_MAT_INT8,
    DI_MAT_UINT8,
    DI_MAT_INT16,
    DI_MAT_UINT16,
    DI_MAT_INT32,
    DI_MAT_UINT32,
    DI_MAT_INT64,
    DI_MAT_UINT64
};
enum { DI_MAT_RANK = 32, DI_MAT_NAME = 64, DI_MAT_DEPTH = 16, DI_MAT_FIELDS = 4096 };

/* One array of a variable: the variable itself or something in a cell or structure. */
typedef struct di_mat_array {
    uint8_t class_id, stored, rank; /* stored: type of the elements in the file */
    bool logical;
    int32_t fields, field_bytes; /* structures: fields of an element, bytes of a name */
    int64_t count;               /* elements */
    const uint8_t *dims, *data, *names;
    size_t data_bytes;
    int64_t first; /* cells and structures: the first array in them, element by element, field by field */
} di_mat_array;

typedef struct di_mat_variable {
    distac_context *context;
    const char *path; /* the caller's */
    char name[DI_MAT_NAME];
    bool swapped; /* the other byte order */
    uint8_t *bytes;
    size_t size;
    di_mat_array *arrays; /* the first is the variable */
    size_t used, room;
} di_mat_variable;

/* Types of stored elements (mi… in the format's description). */
enum {
    DI_MI_INT8 = 1,
    DI_MI_UINT8,
    DI_MI_INT16,
    DI_MI_UINT16,
    DI_MI_INT32,
    DI_MI_UINT32,
    DI_MI_SINGLE,
    DI_MI_DOUBLE = 9,
    DI_MI_INT64 = 12,
    DI_MI_UINT64,
    DI_MI_MATRIX,
    DI_MI_COMPRESSED,
    DI_MI_UTF8,
    DI_MI_UTF16,
    DI_MI_UTF32
};

typedef struct di_mat di_mat;
/* path stays the caller's. Errors: EIO, EFORMAT, EUNSUPPORTED (version 4, version 7.3). */
distac_status di_mat_open(distac_context *context, const char *path, di_mat **out);
/* The next variable of this name (NULL: of any), *out NULL at the end. After an error nothing more is read. */
distac_status di_mat_next(di_mat *mat, const char *name, di_mat_variable **out);
void di_mat_close(di_mat *mat);
/* The variable of a file. Errors: as above, ENOTFOUND (the text lists what there is). */
distac_status di_mat_variable_read(distac_context *context, const char *path, const char *name,
                                   di_mat_variable **out);
void di_mat_variable_free(di_mat_variable *variable);

/* Reads the arrays of a variable from its bytes, the body of a matrix element (mat_array.c). */
distac_status di_mat_parse(di_mat_variable *variable);
/* The name of the matrix element that begins with these bytes, which may be cut. */
distac_status di_mat_peek(const char *path, bool swapped, const uint8_t *bytes, size_t count,
                          char name[DI_MAT_NAME]);
uint32_t di_mat_u32(const uint8_t *bytes, bool swapped);
uint32_t di_mat_u16(const uint8_t *bytes, bool swapped);
int di_mat_width(int type); /* bytes of an element, 0: none */
distac_status di_mat_bad(const di_mat_variable *variable, size_t at, const char *what);
/* Is this text whole, and as long as its size says? (mat_text.c) */
distac_status di_mat_check_text(const di_mat_variable *v, const di_mat_array *a, size_t at);

int64_t di_mat_dim(const di_mat_variable *v, const di_mat_array *a, int d); /* 1 beyond the rank */
/* A number or logical value. */
double di_mat_number(const di_mat_variable *v, const di_mat_array *a, int64_t index);
/* An element of a text as a code unit; of UTF-8 a byte. */
uint32_t di_mat_char(const di_mat_variable *v, const di_mat_array *a, int64_t index);
/* A text in one row as UTF-8, free() it. */
distac_status di_mat_text(const di_mat_variable *v, const di_mat_array *a, char **out);
/* What is in a cell, or in a field (NULL: there is no such field). */
const di_mat_array *di_mat_cell(const di_mat_variable *v, const di_mat_array *a, int64_t index);
const di_mat_array *di_mat_field(const di_mat_variable *v, const di_mat_array *a, int64_t index, const char *name);
const char *di_mat_class_name(int class_id);

#endif
