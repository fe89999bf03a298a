/* status.c: error codes and this thread's error text. The text lives in a fixed buffer per thread, so that a
 * failure can be reported when there is no memory left. */
#include "base.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_BYTES = 8192 };

static _Thread_local char error_text[TEXT_BYTES];
static _Thread_local unsigned error_count, memory_error_count;

distac_status di_fail_at(distac_status code, const char *function, const char *format, ...) {
    /* Formatted aside first: an argument may be the present text (a caller that adds to it). */
    char text[TEXT_BYTES];
    int head = snprintf(text, sizeof text, "%s: ", function ? function : "?");
    size_t used = head < 0 ? 0 : (size_t)head < sizeof text ? (size_t)head : sizeof text - 1;
    va_list args;
    va_start(args, format);
    int body = vsnprintf(text + used, sizeof text - used, format, args);
    va_end(args);
    if (body >= 0 && (size_t)body >= sizeof text - used) memcpy(text + sizeof text - 5, " ...", 5);
    memcpy(error_text, text, strlen(text) + 1);
    error_count++;
    if (code == DISTAC_ENOMEM) memory_error_count++;
    return code;
}

distac_status di_system_status(int error) { return error == ENOMEM ? DISTAC_ENOMEM : DISTAC_EIO; }

unsigned di_error_count(void) { return error_count; }

unsigned di_memory_error_count(void) { return memory_error_count; }

void di_error_restore(const char *text) {
    size_t length = strlen(text);
    if (length >= sizeof error_text) length = sizeof error_text - 1;
    memmove(error_text, text, length);
    error_text[length] = 0;
    error_count++;
}

const char *distac_last_error(void) { return error_text; }

const char *distac_status_name(distac_status status) {
    switch (status) {
    case DISTAC_OK: return "OK";
    case DISTAC_ENOMEM: return "ENOMEM";
    case DISTAC_EINVAL: return "EINVAL";
    case DISTAC_ESHAPE: return "ESHAPE";
    case DISTAC_EDTYPE: return "EDTYPE";
    case DISTAC_EIO: return "EIO";
    case DISTAC_EFORMAT: return "EFORMAT";
    case DISTAC_ENOTFOUND: return "ENOTFOUND";
    case DISTAC_ENUMERIC: return "ENUMERIC";
    case DISTAC_ECANCELED: return "ECANCELED";
    case DISTAC_ESTATE: return "ESTATE";
    case DISTAC_EDEVICE: return "EDEVICE";
    case DISTAC_EUNSUPPORTED: return "EUNSUPPORTED";
    default: return "EUNKNOWN";
    }
}

const char *distac_version(void) { return DISTAC_VERSION; }

int32_t distac_abi_version(void) { return DISTAC_ABI_VERSION; }

double di_shown(double value) {
    return isnan(value) ? (double)NAN : value;
}
