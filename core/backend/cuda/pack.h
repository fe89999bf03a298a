/* pack.h: several neighbouring elements moved at once, where sizes and addresses allow it. Kernels take the number of
 * elements as a template parameter V; DI_WIDE picks the widest that fits. */
#ifndef DISTAC_CUDA_PACK_H
#define DISTAC_CUDA_PACK_H

#include "launch.h"

template <typename T, int V> struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) di_pack {
    T at[V];
};
template <int V, typename T> __device__ static inline di_pack<T, V> di_get(const T *from) {
    return *reinterpret_cast<const di_pack<T, V> *>(from);
}
template <int V, typename T> __device__ static inline void di_put(T *to, const di_pack<T, V> &values) {
    *reinterpret_cast<di_pack<T, V> *>(to) = values;
}

/* Elements of 16 bytes. */
template <typename T> struct di_lanes {
    static const int count = 16 / (int)sizeof(T);
};
static inline bool di_aligned(const void *pointer) { return ((uintptr_t)pointer & 15) == 0; }

#endif
