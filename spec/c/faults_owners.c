/* faults_owners.c: the library that a call comes from. */
#define _GNU_SOURCE 1 /* dl_iterate_phdr */
#include "faults_inside.h"

#include <link.h>
#include <string.h>

enum { RANGES = 256 };
static struct {
    uintptr_t from, to;
    owner who;
} ranges[RANGES];
static int range_count;

static int note_object(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    (void)data;
    const char *name = info->dlpi_name;
    owner who = strstr(name, "/ld-linux") || strstr(name, "/ld-musl") ? LINKER
                : strstr(name, "blas") || strstr(name, "libgomp") || strstr(name, "libgcc_s") ? MATRIX
                                                                      : ANYONE;
    for (int i = 0; who != ANYONE && i < info->dlpi_phnum && range_count < RANGES; i++) {
        if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
        uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        ranges[range_count].from = from;
        ranges[range_count].to = from + info->dlpi_phdr[i].p_memsz;
        ranges[range_count++].who = who;
    }
    return 0;
}

void owners_note(void) {
    range_count = 0;
    dl_iterate_phdr(note_object, NULL);
}

owner owner_of(uintptr_t caller) {
    for (int i = 0; i < range_count; i++)
        if (caller >= ranges[i].from && caller < ranges[i].to) return ranges[i].who;
    return ANYONE;
}
