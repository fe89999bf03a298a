/* embedding_kernels.cu: images to patches and tokens and back, rows taken out and put elsewhere, bytes to floats: index
 * arithmetic, an element a thread. */
#include "kernels.h"
#include "launch.h"

enum { THREADS = 256 };

/* The constants of channels as an argument. */
template <typename A> struct di_channels {
    A mean[DI_CUDA_CHANNELS], std[DI_CUDA_CHANNELS];
};

/* images [B,C,S,S] in I -> patches [B*G*G, C*p*p] in A. X: what counts the elements; quotients of 64 bits take several
 * times as long as the memory does. */
template <typename I, typename A, typename X>
__global__ void patches(int64_t n, X C, X S, X p, const I *images, A *out) {
    X G = S / p, size = C * p * p;
    DI_EACH(each, n) {
        X i = (X)each, patch = i / size, in = i % size, b = patch / (G * G), cell = patch % (G * G);
        X c = in / (p * p), y = cell / G * p + in / p % p, x = cell % G * p + in % p;
        out[i] = di_store<A>((typename di_real<A>::type)images[((b * C + c) * S + y) * S + x]);
    }
}

template <typename A, typename P>
__global__ void tokens(int64_t n, int64_t N, int64_t W, const A *embedded, const P *cls, const P *pos, A *x) {
    DI_EACH(i, n) {
        int64_t w = i % W, token = i / W % N, b = i / (W * N);
        typename di_real<A>::type value =
            token == 0 ? cls[w] : di_load(embedded[(b * (N - 1) + token - 1) * W + w]);
        x[i] = di_store<A>(value + pos[token * W + w]);
    }
}

template <typename A>
__global__ void tokens_embedded(int64_t n, int64_t N, int64_t W, const A *dx, A *dembedded) {
    DI_EACH(i, n) {
        int64_t w = i % W, row = i / W, b = row / (N - 1), token = row % (N - 1) + 1;
        dembedded[i] = dx[(b * N + token) * W + w];
    }
}

/* A thread sums a column of the batch, in order. */
template <typename A, typename P>
__global__ void tokens_sums(int64_t B, int64_t N, int64_t W, const A *dx, P *dcls, P *dpos) {
    DI_EACH(i, N * W) {
        double sum = 0;
        for (int64_t b = 0; b < B; b++) sum += (double)di_load(dx[b * N * W + i]);
        if (dpos) dpos[i] += (P)sum;
        if (dcls && i < W) dcls[i] += (P)sum;
    }
}

template <typename A> __global__ void rows_first(int64_t n, int64_t N, int64_t W, const A *x, A *first) {
    DI_EACH(i, n) first[i] = x[i / W * N * W + i % W];
}

template <typename A> __global__ void rows_first_backward(int64_t n, int64_t N, int64_t W, const A *dfirst, A *dx) {
    DI_EACH(i, n) {
        int64_t w = i % W, token = i / W % N, b = i / (W * N);
        dx[i] = token == 0 ? dfirst[b * W + w] : di_store<A>(0);
    }
}

template <typename A> __global__ void gather(int64_t n, int64_t C, const int64_t *list, const A *x, A *y) {
    DI_EACH(i, n * C) y[i] = x[list[i / C] * C + i % C];
}

/* One channel of every image; grid.y are the channels. */
template <typename A>
__global__ void pixels(int64_t n, int64_t plane, const unsigned char *bytes, const int64_t *list,
                       const __grid_constant__ di_channels<A> c,
                       A *x) {
    int64_t channel = blockIdx.y, channels = gridDim.y;
    const A mean = c.mean[channel], std = c.std[channel];
    DI_EACH(i, n * plane) {
        int64_t image = i / plane, from = list ? list[image] : image;
        A value = (A)bytes[(from * channels + channel) * plane + i % plane] / (A)255;
        x[(image * channels + channel) * plane + i % plane] = (value - mean) / std;
    }
}

#define EMBEDDING(suffix, I, A, P)                                                                                 \
    extern "C" int di_cuda_launch_patches_##suffix(int64_t B, int64_t C, int64_t S, int64_t p, const void *images,        \
                                            void *out, cudaStream_t s) {                                           \
        int64_t n = B * (S / p) * (S / p) * C * p * p;                                                             \
        auto few = patches<I, A, uint32_t>;                                                                        \
        auto many = patches<I, A, int64_t>;                                                                        \
        if (B * C * S * S <= UINT32_MAX)                                                                           \
            return DI_LAUNCH(few, di_blocks(n, THREADS), THREADS, 0, s, n, (uint32_t)C, (uint32_t)S, (uint32_t)p,  \
                             (const I *)images, (A *)out);                                                         \
        return DI_LAUNCH(many, di_blocks(n, THREADS), THREADS, 0, s, n, C, S, p, (const I *)images, (A *)out);     \
    }                                                                                                              \
    extern "C" int di_cuda_launch_tokens_##suffix(int64_t B, int64_t N, int64_t W, const void *embedded, const void *cls, \
                                           const void *pos, void *x, cudaStream_t s) {                             \
        int64_t n = B * N * W;                                                                                     \
        auto kernel = tokens<A, P>;                                                                                \
        return DI_LAUNCH(kernel, di_blocks(n, THREADS), THREADS, 0, s, n, N, W, (const A *)embedded,               \
                         (const P *)cls, (const P *)pos, (A *)x);                                                  \
    }                                                                                                              \
    extern "C" int di_cuda_launch_tokens_backward_##suffix(int64_t B, int64_t N, int64_t W, const void *dx,               \
                                                    void *dembedded, void *dcls, void *dpos, cudaStream_t s) {     \
        int64_t n = B * (N - 1) * W;                                                                               \
        int error = n ? DI_LAUNCH(tokens_embedded<A>, di_blocks(n, THREADS), THREADS, 0, s, n, N, W,               \
                                  (const A *)dx, (A *)dembedded)                                                   \
                      : 0;                                                                                         \
        if (error) return error;                                                                                   \
        auto kernel = tokens_sums<A, P>;                                                                           \
        return DI_LAUNCH(kernel, di_blocks(N * W, THREADS), THREADS, 0, s, B, N, W, (const A *)dx, (P *)dcls,      \
                         (P *)dpos);                                                                               \
    }                                                                                                              \
    extern "C" int di_cuda_launch_rows_first_##suffix(int64_t B, int64_t N, int64_t W, const void *x, void *first,        \
                                               cudaStream_t s) {                                                   \
        return DI_LAUNCH(rows_first<A>, di_blocks(B * W, THREADS), THREADS, 0, s, B * W, N, W, (const A *)x,       \
                         (A *)first);                                                                              \
    }                                                                                                              \
    extern "C" int di_cuda_launch_rows_first_backward_##suffix(int64_t B, int64_t N, int64_t W, const void *dfirst,       \
                                                        void *dx, cudaStream_t s) {                                \
        return DI_LAUNCH(rows_first_backward<A>, di_blocks(B * N * W, THREADS), THREADS, 0, s, B * N * W, N, W,    \
                         (const A *)dfirst, (A *)dx);                                                              \
    }
EMBEDDING(f32, float, float, float)
EMBEDDING(f64, double, double, double)
EMBEDDING(narrow, float, __nv_bfloat16, float)

#define PLAIN(suffix, A)                                                                                           \
    extern "C" int di_cuda_launch_gather_##suffix(int64_t n, int64_t C, const int64_t *list, const void *x, void *y,      \
                                           cudaStream_t s) {                                                       \
        return DI_LAUNCH(gather<A>, di_blocks(n *C, THREADS), THREADS, 0, s, n, C, list, (const A *)x, (A *)y);    \
    }                                                                                                              \
    extern "C" int di_cuda_launch_pixels_##suffix(int64_t n, int64_t channels, int64_t plane,                             \
                                           const unsigned char *bytes, const int64_t *list, const double *mean,    \
                                           const double *std, void *x, cudaStream_t s) {                           \
        di_channels<A> c;                                                                                          \
        for (int64_t i = 0; i < channels; i++) {                                                                   \
            c.mean[i] = (A)mean[i];                                                                                \
            c.std[i] = (A)std[i];                                                                                  \
        }                                                                                                          \
        dim3 grid(di_blocks(n *plane, THREADS), (unsigned)channels);                                               \
        return DI_LAUNCH(pixels<A>, grid, THREADS, 0, s, n, plane, bytes, list, c, (A *)x);                        \
    }
PLAIN(f32, float)
PLAIN(f64, double)
