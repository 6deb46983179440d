// FlashInfer's chain speculative sampling behind a C function, for the benchmark. Built with its headers:
//     nvcc -shared -Xcompiler -fPIC -O3 -std=c++17 -gencode=arch=compute_90a,code=sm_90a
//         -I FLASHINFER/data/include benches/gpu/flashinfer_chain.cu -o libflashinfer_chain.so
#include <flashinfer/sampling.cuh>

extern "C" int flashinfer_chain(float* draft, int* tokens, float* target, int* output, int* accepted, int* emitted,
                                unsigned batch, unsigned drafts, unsigned vocab, cudaStream_t stream) {
    return (int)flashinfer::sampling::ChainSpeculativeSampling<float, int>(
        draft, tokens, target, output, accepted, emitted, batch, drafts, vocab, true, nullptr, 1, nullptr, 0, stream);
}
