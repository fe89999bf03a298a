/* graph.c: work that is always the same, recorded once as a CUDA graph and given to the device as one: the launches of
 * a training step cost the host hundreds of calls, a graph costs one. */
#include "cuda.h"

#include <stdlib.h>

typedef struct recording {
    cudaGraphExec_t graph;
    const void *scratch; /* as it was: recorded kernels point into it */
} recording;

distac_status di_cuda_record_begin(distac_context *c) {
    DI_CUDA_BEGIN(c, "recording");
    return di_cuda_check(c, "recording", cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal));
}

distac_status di_cuda_record_end(distac_context *c, bool keep, void **out) {
    di_cuda *cuda = di_cuda_of(c);
    cudaGraph_t graph = NULL;
    cudaError_t error = cudaStreamEndCapture(cuda->stream, &graph);
    *out = NULL;
    if (!keep || error != cudaSuccess) {
        if (graph) (void)cudaGraphDestroy(graph);
        if (!keep) (void)cudaGetLastError();
        return keep ? di_cuda_check(c, "recording", (int)error) : DISTAC_OK;
    }
    recording *r = di_new(sizeof *r);
    distac_status status = r ? di_cuda_check(c, "recording", cudaGraphInstantiate(&r->graph, graph, 0)) : DISTAC_ENOMEM;
    (void)cudaGraphDestroy(graph);
    if (status != DISTAC_OK) {
        free(r);
        return status;
    }
    r->scratch = cuda->scratch;
    *out = r;
    return DISTAC_OK;
}

bool di_cuda_recording_holds(distac_context *c, const void *what) {
    return ((const recording *)what)->scratch == di_cuda_of(c)->scratch;
}

distac_status di_cuda_replay(distac_context *c, const void *what) {
    DI_CUDA_BEGIN(c, "recording");
    return di_cuda_check(c, "recording", cudaGraphLaunch(((const recording *)what)->graph, cuda->stream));
}

void di_cuda_recording_free(distac_context *c, void *what) {
    recording *r = what;
    if (!r) return;
    (void)cudaSetDevice(di_cuda_of(c)->index);
    (void)cudaStreamSynchronize(di_cuda_of(c)->stream); /* it may be on its way */
    (void)cudaGraphExecDestroy(r->graph);
    free(r);
}
