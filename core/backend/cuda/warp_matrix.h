/* warp_matrix.h: products of small matrices by a warp's tensor cores, factors in bfloat16 and sums in float, and how
 * factors come from global to shared memory and from there to lanes. On the emulated device the same is done by plain
 * loops over what the lanes hold, so that the index arithmetic around it is tested.
 *
 * With g = lane / 4 and t = lane % 4 a lane holds, two neighbours in a word, the lower first:
 *   A [16,16] by rows:    x[0] row g, x[1] row g + 8, columns 2t and 2t + 1; x[2], x[3] the same 8 columns on
 *   B [16,8] by columns:  x[0] rows 2t and 2t + 1, x[1] 8 rows on, column g
 *   C [16,8]:             x[0], x[1] row g, columns 2t and 2t + 1; x[2], x[3] row g + 8
 * so the sums of two neighbouring C, rounded, are an A. */
#ifndef DISTAC_CUDA_WARP_MATRIX_H
#define DISTAC_CUDA_WARP_MATRIX_H

#include "launch.h"

struct di_part_a {
    unsigned x[4];
};
struct di_part_b {
    unsigned x[2];
};
struct di_part_c {
    float x[4];
};

__device__ static inline unsigned di_two(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    unsigned word;
    memcpy(&word, &pair, sizeof word);
    return word;
}
/* Two neighbouring C, rounded, as the A of the next product. */
__device__ static inline di_part_a di_as_factor(const di_part_c &left, const di_part_c &right) {
    return {{di_two(left.x[0], left.x[1]), di_two(left.x[2], left.x[3]), di_two(right.x[0], right.x[1]),
             di_two(right.x[2], right.x[3])}};
}

#if defined(DI_EMULATED)

/* c += a b */
static inline void di_multiply(di_part_c &c, const di_part_a &a, const di_part_b &b) {
    unsigned A[4][32], B[2][32], lane = emulated::lane();
    for (int i = 0; i < 6; i += 2) { /* each exchange's answer is read before the next one */
        const unsigned *own = i < 4 ? &a.x[i] : b.x;
        const unsigned long long *all = emulated::warp_exchange(0xffffffffu, own[0] | (unsigned long long)own[1] << 32);
        for (int l = 0; l < 32; l++) {
            (i < 4 ? A[i] : B[0])[l] = (unsigned)all[l];
            (i < 4 ? A[i + 1] : B[1])[l] = (unsigned)(all[l] >> 32);
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        unsigned row = lane / 4, column = 2 * (lane % 4) + i % 2;
        for (unsigned k = 0; k < 16; k++) {
            unsigned x = A[i / 2 + k / 8 * 2][row * 4 + k % 8 / 2], y = B[k / 8][column * 4 + k % 8 / 2];
            c.x[i] += __uint_as_float(k % 2 ? x & 0xffff0000u : x << 16) *
                      __uint_as_float(k % 2 ? y & 0xffff0000u : y << 16);
        }
    }
}

/* Four matrices [8,8] from shared memory: lane i gives the address of row i % 8 of matrix i / 8, 16 bytes aligned to
 * them, and gets of each matrix the word of row g, columns 2t and 2t + 1; turned: of column g, rows 2t and 2t + 1. */
static inline void di_load_four(unsigned out[4], const __nv_bfloat16 *row, bool turned) {
    const __nv_bfloat16 *rows[32];
    if ((uintptr_t)row % 16 != 0) emulated::misuse("a row of a matrix is not aligned to 16 bytes");
    const unsigned long long *all = emulated::warp_exchange(0xffffffffu, (uintptr_t)row);
    for (int l = 0; l < 32; l++) rows[l] = (const __nv_bfloat16 *)(uintptr_t)all[l];
    unsigned lane = emulated::lane(), g = lane / 4, t = lane % 4;
    for (unsigned i = 0; i < 4; i++) {
        __nv_bfloat16 low = turned ? rows[8 * i + 2 * t][g] : rows[8 * i + g][2 * t];
        __nv_bfloat16 high = turned ? rows[8 * i + 2 * t + 1][g] : rows[8 * i + g][2 * t + 1];
        out[i] = low.bits | (unsigned)high.bits << 16;
    }
}

/* 16 bytes on their way from global to shared memory, or zeros. They are there when the group they belong to was waited
 * for, and for other threads after a barrier. */
static inline void di_send(void *shared, const void *global, bool there) {
    emulated::copy_async(shared, there ? global : NULL, 16);
}
static inline void di_send_group() { emulated::copy_async_group(); }
template <int LEFT> static inline void di_await_groups() { emulated::copy_async_wait(LEFT); }

#else

__device__ static inline void di_multiply(di_part_c &c, const di_part_a &a, const di_part_b &b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c.x[0]), "+f"(c.x[1]), "+f"(c.x[2]), "+f"(c.x[3])
                 : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
}

__device__ static inline void di_load_four(unsigned out[4], const __nv_bfloat16 *row, bool turned) {
    unsigned at = (unsigned)__cvta_generic_to_shared(row);
    if (turned)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                     : "r"(at)
                     : "memory");
}

__device__ static inline void di_send(void *shared, const void *global, bool there) {
    unsigned at = (unsigned)__cvta_generic_to_shared(shared), bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(global), "r"(bytes) : "memory");
}
__device__ static inline void di_send_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT> __device__ static inline void di_await_groups() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

#endif

/* ---- tiles: 64 rows of 64 elements in shared memory, in pieces of 8 that change places from row to row so that eight
 * rows' pieces of one column lie in different banks ---- */
enum { DI_TILE = 64 };

__device__ static inline int di_tile_at(int row, int piece) { return row * DI_TILE + ((piece ^ (row & 7)) << 3); }

/* A [16,16] of a tile: rows from `row`, columns from 16 k. */
__device__ static inline di_part_a di_tile_a(const __nv_bfloat16 *tile, int row, int k) {
    int lane = (int)threadIdx.x % 32;
    di_part_a a;
    di_load_four(a.x, tile + di_tile_at(row + lane % 16, 2 * k + lane / 16), false);
    return a;
}
/* Two neighbouring B from 16 rows of a tile, from `row`, and its columns from 16 k: the tile's rows are B's columns, or,
 * turned, its rows. */
__device__ static inline void di_tile_b(di_part_b b[2], const __nv_bfloat16 *tile, int row, int k, bool turned) {
    int lane = (int)threadIdx.x % 32, low = lane / 8 % 2, high = lane / 16;
    unsigned x[4];
    di_load_four(x, tile + di_tile_at(row + lane % 8 + 8 * (turned ? low : high), 2 * k + (turned ? high : low)),
                 turned);
    b[0] = {{x[0], x[1]}};
    b[1] = {{x[2], x[3]}};
}

#endif
