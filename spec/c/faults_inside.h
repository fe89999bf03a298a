/* faults_inside.h: what the parts of faults.h share: whose call it is, and what is told of memory. */
#ifndef FAULTS_INSIDE_H
#define FAULTS_INSIDE_H

#include "faults.h"

/* ---- faults_owners.c ---- */
/* Of a matrix library, and of the compiler's library that is told of LuaJIT's compiled code, no call fails: they
 * do not look whether it did. */
typedef enum { ANYONE, LINKER, MATRIX } owner;
/* Looks which libraries are loaded now. */
void owners_note(void);
owner owner_of(uintptr_t caller);

/* ---- faults_blocks.c ---- */
/* Of every allocation and every free, while there is a watch. NULL is fine. */
void blocks_remember(void *memory, size_t bytes, uintptr_t caller);
void blocks_forget(void *memory);

#endif
