/* bench_merge_limit.c: what no merge can beat: reading all inputs once from mapped files on two threads and
 * writing the bytes of the base durably. usage: bench_merge_limit OUT BASE MODEL...  (OUT is removed afterwards)
 */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64, PIECE = 4 << 20 };
typedef struct input {
    const uint8_t *bytes;
    size_t size;
} input;
typedef struct half {
    const input *inputs;
    int count, side;
    uint64_t sum; /* so that the reading is not optimised away */
} half;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *read_half(void *arg) {
    half *h = arg;
    for (int f = 0; f < h->count; f++) {
        size_t words = h->inputs[f].size / 16;
        for (size_t i = 0; i < words; i++) {
            uint64_t word;
            memcpy(&word, h->inputs[f].bytes + 8 * ((size_t)h->side * words + i), sizeof word);
            h->sum += word;
        }
    }
    return NULL;
}

static int write_durably(const char *path, size_t size, double *seconds) {
    uint8_t *piece = malloc(PIECE);
    double begun = now();
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644), bad = fd < 0 || !piece;
    if (piece) memset(piece, 7, PIECE);
    for (size_t at = 0; at < size && !bad;) {
        ssize_t done = write(fd, piece, size - at < PIECE ? size - at : PIECE);
        bad = done <= 0;
        at += bad ? 0 : (size_t)done;
    }
    if (!bad) bad = fsync(fd) != 0;
    if (fd >= 0) close(fd);
    *seconds = now() - begun;
    unlink(path);
    free(piece);
    return bad;
}

int main(int argc, char **argv) {
    input inputs[MOST];
    int count = argc - 2;
    if (count < 1 || count > MOST) {
        fprintf(stderr, "usage: bench_merge_limit OUT BASE MODEL...\n");
        return 2;
    }
    double begun = now();
    for (int f = 0; f < count; f++) {
        struct stat info;
        int fd = open(argv[f + 2], O_RDONLY);
        if (fd < 0 || fstat(fd, &info) != 0) {
            perror(argv[f + 2]);
            return 1;
        }
        void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
        close(fd);
        if (map == MAP_FAILED) {
            perror(argv[f + 2]);
            return 1;
        }
        inputs[f] = (input){map, (size_t)info.st_size};
    }
    half halves[2] = {{inputs, count, 0, 0}, {inputs, count, 1, 0}};
    pthread_t other;
    if (pthread_create(&other, NULL, read_half, &halves[1]) != 0) return 1;
    read_half(&halves[0]);
    pthread_join(other, NULL);
    double reading = now() - begun, writing;
    if (write_durably(argv[1], inputs[0].size, &writing)) {
        perror(argv[1]);
        return 1;
    }
    printf("read %.3f s, wrote durably %.3f s, together %.3f s (check %llx)\n", reading, writing,
           reading + writing, (unsigned long long)(halves[0].sum ^ halves[1].sum));
    return 0;
}
