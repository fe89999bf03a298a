/* unicase.h, without libunistring: see unictype.h. */
#ifndef DISTAC_WITHOUT_UNICASE_H
#define DISTAC_WITHOUT_UNICASE_H

#include <stdint.h>

static inline uint32_t uc_tolower(uint32_t c) { return c; }

#endif
