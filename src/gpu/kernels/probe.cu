// The smallest kernel: what a new device is asked before it is trusted with anything else.
#include "row.cuh"
#include "coins.cuh"

// Coins of one round, one for each thread's draft number.
extern "C" __global__ void probe_coins(unsigned long long seed, unsigned long long start, unsigned purpose,
                                       unsigned depth, double* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        out[i] = philox_coin(seed, start, purpose, depth, (unsigned)i);
    }
}

// The bytes of the structures that both sides write down.
extern "C" __global__ void probe_layout(int* out) {
    out[0] = (int)sizeof(RowStats);
    out[1] = (int)sizeof(Grid);
}
