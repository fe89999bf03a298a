/* both.h: includes the file DI_SELF once for float and once for double. */
#include "isa.h"

#define DI_REAL 32
#define DI_SUFFIX f32
#define T float
#include "real.h"
#include DI_SELF
#undef DI_REAL
#undef DI_SUFFIX
#undef T
#undef V
#undef VU
#undef D
#undef MASK
#undef H

#define DI_REAL 64
#define DI_SUFFIX f64
#define T double
#include "real.h"
#include DI_SELF
