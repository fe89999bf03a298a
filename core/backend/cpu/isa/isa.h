/* isa.h: what every kernel file of this folder stands on. Each file is compiled once per instruction set
 * (DI_ISA) and includes itself twice, for float and for double, through both.h: what is inside `#ifdef DI_REAL`
 * is written in T, the element type, and NAME(x) gives it a name of its own. real.h holds the vectors of T. */
#ifndef DISTAC_ISA_H
#define DISTAC_ISA_H

#include "../cpu.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#ifndef DI_ISA
#define DI_ISA scalar
#endif

/* Bytes of a vector register. */
#if defined(__AVX512F__)
#define VBYTES 64
#elif defined(__AVX2__)
#define VBYTES 32
#else
#define VBYTES 16
#endif

#define INLINE static inline __attribute__((always_inline, unused))
#define LOCAL static __attribute__((unused))
#define PRAGMA(text) _Pragma(#text)
#define UNROLL(n) PRAGMA(GCC unroll n)
#define SIMD PRAGMA(omp simd)

#define PASTE3_(a, b, c) a##_##b##_##c
#define PASTE3(a, b, c) PASTE3_(a, b, c)
#define NAME(name) PASTE3(di_##name, DI_SUFFIX, DI_ISA)

#endif
