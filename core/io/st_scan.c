/* st_scan.c: walks the raw bytes of a header and cuts it into the members of the top-level object. It checks
 * what a parsed document cannot tell any more: the first byte, how numbers are spelled, how deep brackets
 * nest, control bytes. Names and values are decoded by the JSON library afterwards, span by span, so the memory
 * a header costs stays small and every error knows its offset. */
#include "st_scan.h"
#include <stdio.h>
#include <string.h>

enum { MAX_DEPTH = 3 }; /* object, entry, list */

distac_status di_scan_fail(const di_scan *scan, size_t at, const char *format, ...) {
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return di_fail_at(DISTAC_EFORMAT, "distac_checkpoint_open", "%s: byte %zu: %s", scan->path, scan->base + at,
                      text);
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_space(di_scan *scan) {
    while (scan->at < scan->length && is_space(scan->text[scan->at])) scan->at++;
}

/* What stands at the scan, for an error text. */
static const char *seen(const di_scan *scan, char buffer[32]) {
    if (scan->at >= scan->length) return "the header ends";
    unsigned char c = (unsigned char)scan->text[scan->at];
    if (c > 0x20 && c < 0x7f)
        snprintf(buffer, 32, "found '%c'", c);
    else
        snprintf(buffer, 32, "found byte 0x%02X", c);
    return buffer;
}

static distac_status skip_string(di_scan *scan) {
    size_t start = scan->at++;
    while (scan->at < scan->length) {
        unsigned char c = (unsigned char)scan->text[scan->at];
        if (c == '"') {
            scan->at++;
            return DISTAC_OK;
        }
        if (c < 0x20) return di_scan_fail(scan, scan->at, "control byte 0x%02X inside a text", c);
        scan->at += c == '\\' ? 2 : 1;
    }
    return di_scan_fail(scan, start, "the header ends inside a text that starts here");
}

/* Every number of a legal header is a plain non-negative integer that fits in 63 bits. */
static distac_status skip_number(di_scan *scan) {
    size_t start = scan->at;
    while (scan->at < scan->length && strchr("+-.0123456789eE", scan->text[scan->at]) && scan->text[scan->at])
        scan->at++;
    size_t length = scan->at - start;
    const char *number = scan->text + start;
    size_t digits = 0;
    while (digits < length && number[digits] >= '0' && number[digits] <= '9') digits++;
    int shown = length > 40 ? 40 : (int)length;
    if (digits != length || (length > 1 && number[0] == '0'))
        return di_scan_fail(scan, start, "numbers must be plain non-negative integers; found %.*s", shown, number);
    if (length > 19 || (length == 19 && memcmp(number, "9223372036854775807", 19) > 0))
        return di_scan_fail(scan, start, "the integer %.*s%s does not fit in 63 bits", shown, number,
                            length > 40 ? "..." : "");
    return DISTAC_OK;
}

/* A value, without recursion. Whether brackets and commas stand where they should is the JSON library's matter. */
static distac_status skip_value(di_scan *scan) {
    char buffer[32];
    int depth = 1;
    do {
        skip_space(scan);
        if (scan->at >= scan->length) return di_scan_fail(scan, scan->at, "the header ends inside a value");
        char c = scan->text[scan->at];
        if (c == '"') {
            DI_TRY(skip_string(scan));
        } else if (c == '{' || c == '[') {
            if (depth == MAX_DEPTH)
                return di_scan_fail(scan, scan->at, "brackets nest deeper than %d levels", MAX_DEPTH);
            depth++;
            scan->at++;
        } else if (c == '}' || c == ']') {
            if (depth == 1) return di_scan_fail(scan, scan->at, "a value is missing; found '%c'", c);
            depth--;
            scan->at++;
        } else if ((c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.') {
            DI_TRY(skip_number(scan));
        } else if ((c == ',' || c == ':') && depth > 1) {
            scan->at++;
        } else if (c >= 'a' && c <= 'z') {
            while (scan->at < scan->length && scan->text[scan->at] >= 'a' && scan->text[scan->at] <= 'z')
                scan->at++;
        } else {
            return di_scan_fail(scan, scan->at, "not JSON: %s where a value is expected", seen(scan, buffer));
        }
    } while (depth > 1);
    return DISTAC_OK;
}

distac_status di_scan_open(di_scan *scan) {
    char buffer[32];
    if (scan->text[0] != '{')
        return di_scan_fail(scan, 0, "the header must start with '{'; %s", seen(scan, buffer));
    scan->at = 1;
    return DISTAC_OK;
}

static distac_status finish(di_scan *scan) {
    char buffer[32];
    scan->at++;
    skip_space(scan);
    if (scan->at < scan->length)
        return di_scan_fail(scan, scan->at, "only white space may follow the header's closing '}'; %s",
                            seen(scan, buffer));
    return DISTAC_OK;
}

distac_status di_scan_member(di_scan *scan, bool first, bool *more, di_member *out) {
    char buffer[32];
    *more = false;
    skip_space(scan);
    char c = scan->at < scan->length ? scan->text[scan->at] : 0;
    if (c == '}') return finish(scan);
    if (!first) {
        if (c != ',')
            return di_scan_fail(scan, scan->at, "not JSON: ',' or '}' is expected, %s", seen(scan, buffer));
        scan->at++;
        skip_space(scan);
        c = scan->at < scan->length ? scan->text[scan->at] : 0;
    }
    if (c != '"')
        return di_scan_fail(scan, scan->at, "not JSON: a quoted name is expected, %s", seen(scan, buffer));
    out->key = scan->at;
    DI_TRY(skip_string(scan));
    out->key_end = scan->at;
    skip_space(scan);
    if (scan->at >= scan->length || scan->text[scan->at] != ':')
        return di_scan_fail(scan, scan->at, "not JSON: ':' is expected, %s", seen(scan, buffer));
    scan->at++;
    skip_space(scan);
    out->value = scan->at;
    DI_TRY(skip_value(scan));
    out->value_end = scan->at;
    *more = true;
    return DISTAC_OK;
}
