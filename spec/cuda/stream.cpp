/* stream.cpp: streams, events, copies and graphs of the emulated device. What a stream is given waits in a queue until
 * somebody waits for it; graphs are lists of what was given while they were captured. */
#include "emulator.h"

#include <deque>
#include <set>
#include <stdlib.h>
#include <string.h>
#include <time.h>

namespace emulated {
struct piece {
    const char *name;
    std::function<void()> work;
};
}

struct CUgraph_st {
    std::vector<emulated::piece> pieces;
    cudaStream_t origin;
    const void *thread; /* that began the capture */
    bool invalid;
    std::set<cudaStream_t> joined, loose; /* streams drawn in; those whose last work nobody has waited for */
};
struct CUgraphExec_st {
    std::vector<emulated::piece> pieces;
};
struct CUstream_st {
    std::deque<emulated::piece> queue;
    unsigned long long given, done;
    CUgraph_st *graph; /* being captured */
    bool eager;        /* runs what it is given at once */
};
struct CUevent_st {
    cudaStream_t stream; /* recorded in; NULL: never */
    unsigned long long position;
    CUgraph_st *graph;
    double seconds;
    bool timing;
};

namespace emulated {

static thread_local char here; /* its address names the thread */
static CUstream_st first_stream = {};
static std::set<cudaStream_t> streams = {&first_stream};

static cudaStream_t real(cudaStream_t stream) { return stream ? stream : &first_stream; }

static double clock_now() {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Runs what the stream was given up to a position. */
static void run_to(cudaStream_t stream, unsigned long long position) {
    if (stream->done >= position) return;
    open_memory open;
    while (stream->done < position && !stream->queue.empty()) {
        piece p = std::move(stream->queue.front());
        stream->queue.pop_front();
        const char *before = running;
        running = p.name;
        p.work();
        running = before;
        stream->done++;
    }
}

void run(cudaStream_t stream) { run_to(real(stream), real(stream)->given); }

bool capturing(cudaStream_t stream) { return real(stream)->graph != NULL; }

cudaError_t enqueue(cudaStream_t stream, const char *name, std::function<void()> work) {
    stream = real(stream);
    if (!streams.count(stream)) return fail(cudaErrorInvalidResourceHandle);
    if (stream->graph) {
        if (stream->graph->invalid) return fail(cudaErrorStreamCaptureInvalidated);
        stream->graph->pieces.push_back({name, std::move(work)});
        if (stream != stream->graph->origin) stream->graph->loose.insert(stream);
        return cudaSuccess;
    }
    stream->queue.push_back({name, std::move(work)});
    stream->given++;
    if (stream->eager) run(stream);
    return cudaSuccess;
}

/* Waiting is what a capture does not allow: it is spoiled. */
static cudaError_t refuse_capture(cudaStream_t stream) {
    if (!capturing(stream)) return cudaSuccess;
    real(stream)->graph->invalid = true;
    return fail(cudaErrorStreamCaptureUnsupported);
}

cudaError_t refuse_any_capture() {
    for (cudaStream_t s : streams)
        if (s->graph && s->graph->thread == &here)
            if (cudaError_t error = refuse_capture(s)) return error;
    return cudaSuccess;
}

/* A copy as a device sees it: memory that is not pinned is read at once, and written before the call returns. */
static cudaError_t copy(void *dst, const void *src, size_t bytes, cudaStream_t stream) {
    if (bytes == 0) return cudaSuccess;
    bool to = is_device(dst, 1), from = is_device(src, 1);
    if ((to && !is_device(dst, bytes)) || (from && !is_device(src, bytes))) return fail(cudaErrorInvalidValue);
    bool pageable_dst = !to && !is_pinned(dst), pageable_src = !from && !is_pinned(src);
    if ((pageable_dst || pageable_src) && refuse_capture(stream)) return cudaErrorStreamCaptureUnsupported;
    if (pageable_src) {
        auto kept = std::make_shared<std::vector<char>>((const char *)src, (const char *)src + bytes);
        if (cudaError_t e = enqueue(stream, "copy", [=] { memcpy(dst, kept->data(), bytes); })) return e;
    } else {
        if (!to && !capturing(stream)) {
            run(stream);             /* which may still read what is there */
            memset(dst, 0xff, bytes); /* nobody has waited for it yet */
        }
        if (cudaError_t e = enqueue(stream, "copy", [=] { memmove(dst, src, bytes); })) return e;
    }
    if (pageable_dst) run(stream);
    return cudaSuccess;
}

} // namespace emulated

using namespace emulated;

extern "C" {

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    EMULATED_ENTER;
    bool to = is_device(dst, 1), from = is_device(src, 1);
    if (bytes > 0 && kind != cudaMemcpyDefault &&
        (to != (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) ||
         from != (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice)))
        return fail(cudaErrorInvalidValue);
    return copy(dst, src, bytes, stream);
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind) {
    if (cudaError_t error = cudaMemcpyAsync(dst, src, bytes, kind, NULL)) return error;
    std::lock_guard<std::recursive_mutex> guard(lock);
    run(NULL);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream) {
    EMULATED_ENTER;
    if (bytes == 0) return cudaSuccess;
    if (!is_device(dst, bytes)) return fail(cudaErrorInvalidValue);
    return enqueue(stream, "memset", [=] { memset(dst, value, bytes); });
}

cudaError_t cudaDeviceSynchronize(void) {
    EMULATED_ENTER;
    if (cudaError_t error = refuse_any_capture()) return error;
    for (cudaStream_t s : streams) run(s);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    EMULATED_ENTER;
    *stream = new CUstream_st();
    (*stream)->eager = streams.size() > 1 && getenv("EMULATED_CUDA_EAGER");
    streams.insert(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    EMULATED_ENTER;
    if (!streams.count(stream)) return fail(cudaErrorInvalidResourceHandle);
    run(stream);
    streams.erase(stream);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    EMULATED_ENTER;
    if (stream && !streams.count(stream)) return fail(cudaErrorInvalidResourceHandle);
    if (cudaError_t error = refuse_capture(stream)) return error;
    run(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    EMULATED_ENTER;
    return real(stream)->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    EMULATED_ENTER;
    *event = new CUevent_st();
    (*event)->timing = !(flags & cudaEventDisableTiming);
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    EMULATED_ENTER;
    if (event->stream && streams.count(event->stream) && !event->graph) run_to(event->stream, event->position);
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    EMULATED_ENTER;
    stream = real(stream);
    event->stream = stream;
    event->graph = stream->graph;
    if (stream->graph) return cudaSuccess;
    cudaError_t error = enqueue(stream, "event", [event] { event->seconds = clock_now(); });
    event->position = stream->given;
    return error;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    EMULATED_ENTER;
    stream = real(stream);
    if (!event->stream) return cudaSuccess;
    if (event->graph) { /* the other stream's work is part of the capture from here on */
        if (stream->graph && stream->graph != event->graph) return fail(cudaErrorStreamCaptureInvalidated);
        if (!stream->graph) event->graph->joined.insert(stream);
        stream->graph = event->graph;
        event->graph->loose.erase(event->stream);
        return cudaSuccess;
    }
    if (stream->graph) return refuse_capture(stream);
    cudaStream_t other = event->stream;
    unsigned long long position = event->position;
    return enqueue(stream, "wait", [other, position] {
        if (streams.count(other)) run_to(other, position);
    });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    EMULATED_ENTER;
    if (event->graph) return fail(cudaErrorStreamCaptureUnsupported);
    if (event->stream && streams.count(event->stream)) run_to(event->stream, event->position);
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    EMULATED_ENTER;
    bool done = !event->stream || !streams.count(event->stream) || event->stream->done >= event->position;
    return done ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
    EMULATED_ENTER;
    if (!start->timing || !end->timing) return fail(cudaErrorInvalidResourceHandle);
    if (cudaEventQuery(start) || cudaEventQuery(end)) return cudaErrorNotReady;
    *milliseconds = (float)((end->seconds - start->seconds) * 1e3);
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode) {
    EMULATED_ENTER;
    if (!stream || stream->graph) return fail(cudaErrorStreamCaptureUnsupported);
    stream->graph = new CUgraph_st();
    stream->graph->origin = stream;
    stream->graph->thread = &here;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    EMULATED_ENTER;
    *graph = NULL;
    CUgraph_st *g = stream->graph;
    if (!g || g->origin != stream) return fail(cudaErrorInvalidValue);
    for (cudaStream_t other : g->joined) other->graph = NULL;
    stream->graph = NULL;
    if (g->invalid || !g->loose.empty()) {
        delete g;
        return fail(cudaErrorStreamCaptureInvalidated);
    }
    *graph = g;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    EMULATED_ENTER;
    CUgraph_st *g = real(stream)->graph;
    *status = !g           ? cudaStreamCaptureStatusNone
              : g->invalid ? cudaStreamCaptureStatusInvalidated
                           : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
    EMULATED_ENTER;
    *exec = new CUgraphExec_st{graph->pieces};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    EMULATED_ENTER;
    for (const piece &p : exec->pieces)
        if (cudaError_t error = enqueue(stream, p.name, p.work)) return error;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    EMULATED_ENTER;
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    EMULATED_ENTER;
    delete exec;
    return cudaSuccess;
}
}
