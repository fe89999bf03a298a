/* check.h: what most C tests begin with: cmocka and a call that has to go well. */
#ifndef CHECK_H
#define CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "distac.h"

#define OK(call)                                                                                                  \
    do {                                                                                                          \
        distac_status status_ = (call);                                                                           \
        if (status_ != DISTAC_OK) fail_msg("%s: %s", distac_status_name(status_), distac_last_error());           \
    } while (0)

/* A whole file; free() it. */
__attribute__((unused)) static uint8_t *file_bytes(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long length = ftell(file);
    assert_true(length > 0);
    rewind(file);
    uint8_t *bytes = malloc((size_t)length);
    assert_int_equal(fread(bytes, 1, (size_t)length, file), (size_t)length);
    fclose(file);
    *size = (size_t)length;
    return bytes;
}

#endif
