// A cluster of blocks and the numbers it works on: no rows yet.
//
// DTYPE: 0 f32, 1 f16, 2 bf16.  SHAPED: whether there are temperatures or masks.  RESIDENT: whether the chunks fit
// into shared memory; if not, every pass reads device memory (the second from the cache, mostly).
#pragma once

#ifndef DTYPE
#define DTYPE 2
#endif
#ifndef SHAPED
#define SHAPED 0
#endif
#ifndef RESIDENT
#define RESIDENT 1
#endif

#define THREADS 256
#define WARPS (THREADS / 32)
#define MOST_BLOCKS 16    // of a cluster
#define BLOCKS_AT_ONCE 3  // of a multiprocessor
#define LARGEST 1e8f  // logits above it are refused
#define LOG2_E 1.4426950408889634f

#if DTYPE == 0
typedef float Logit;
#define WIDE 4  // logits in 16 bytes
#else
typedef unsigned short Logit;
#define WIDE 8
#endif
#define TILE (32 * WIDE)  // tokens that a warp looks at in one step, in order

#define INF __int_as_float(0x7f800000)

// ---- the cluster -----------------------------------------------------------------------------------------------

__device__ __forceinline__ unsigned block_in_cluster() {
    unsigned rank = 0;
#if __CUDA_ARCH__ >= 900
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
#endif
    return rank;
}

__device__ __forceinline__ unsigned blocks_of_cluster() {
    unsigned count = 1;
#if __CUDA_ARCH__ >= 900
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(count));
#endif
    return count;
}

// The number of the cluster among all.
__device__ __forceinline__ unsigned cluster_number() {
    unsigned number = blockIdx.x;
#if __CUDA_ARCH__ >= 900
    asm("mov.u32 %0, %%clusterid.x;" : "=r"(number));
#endif
    return number;
}

// All threads of all blocks of the cluster; what was written before is seen after.
__device__ __forceinline__ void cluster_sync() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
    __syncthreads();
#endif
}

// The same in two steps, and only that all threads have come so far: what was written is not seen for it.
__device__ __forceinline__ void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// Kernels of one call follow each other: the next may start when all blocks have come to `let_next_start`, and waits in
// `wait_for_last` until the one before has ended and its results are there.
__device__ __forceinline__ void let_next_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ __forceinline__ void wait_for_last() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Before a block ends: the others have read what they want of its memory.
__device__ __forceinline__ void cluster_leave() {
    cluster_arrive();
    cluster_wait();
}

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return (unsigned)__cvta_generic_to_shared(p);
}

// The address of another block's copy of `p`.
__device__ __forceinline__ unsigned remote(const void* p, unsigned rank) {
    unsigned address = shared_address(p);
#if __CUDA_ARCH__ >= 900
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(address), "r"(rank));
#endif
    return address;
}

#if __CUDA_ARCH__ >= 900
#define REMOTE_SPACE "shared::cluster"
#else
#define REMOTE_SPACE "shared"
#endif

// What is at an address that `remote` gave.
__device__ __forceinline__ unsigned read_u32(unsigned address) {
    unsigned x;
    asm volatile("ld." REMOTE_SPACE ".u32 %0, [%1];" : "=r"(x) : "r"(address) : "memory");
    return x;
}
__device__ __forceinline__ double read_f64(unsigned address) {
    double x;
    asm volatile("ld." REMOTE_SPACE ".f64 %0, [%1];" : "=d"(x) : "r"(address) : "memory");
    return x;
}

__device__ __forceinline__ unsigned remote_u32(const unsigned* p, unsigned rank) { return read_u32(remote(p, rank)); }

__device__ __forceinline__ float remote_f32(const float* p, unsigned rank) {
    float x;
    asm volatile("ld." REMOTE_SPACE ".f32 %0, [%1];" : "=f"(x) : "r"(remote(p, rank)) : "memory");
    return x;
}

__device__ __forceinline__ double remote_f64(const double* p, unsigned rank) { return read_f64(remote(p, rank)); }

// ---- numbers ---------------------------------------------------------------------------------------------------

// 2^x for a whole x, 0 where that is very small.
__device__ __forceinline__ double power_of_two(float x) {
    return x > -1000.0f ? __longlong_as_double((long long)(1023 + (int)x) << 52) : 0.0;
}

__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// The larger number; NaN if one is.
__device__ __forceinline__ float max_or_nan(float a, float b) {
    float c;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
    return c;
}

__device__ __forceinline__ float widen(Logit x) {
#if DTYPE == 0
    return x;
#elif DTYPE == 1
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
#else
    return __uint_as_float((unsigned)x << 16);
#endif
}

__device__ __forceinline__ Logit masked() {
#if DTYPE == 0
    return -INF;
#elif DTYPE == 1
    return 0xfc00;
#else
    return 0xff80;
#endif
}

// The two numbers of a word of 16-bit logits.
__device__ __forceinline__ void widen_word(unsigned word, float& a, float& b) {
#if DTYPE == 2
    a = __uint_as_float(word << 16);
    b = __uint_as_float(word & 0xffff0000u);
#elif DTYPE == 1
    a = widen((Logit)(word & 0xffffu));
    b = widen((Logit)(word >> 16));
#else
    a = b = __uint_as_float(word);
#endif
}

__device__ __forceinline__ void widen_vector(uint4 v, float (&x)[WIDE]) {
#if DTYPE == 0
    x[0] = __uint_as_float(v.x), x[1] = __uint_as_float(v.y);
    x[2] = __uint_as_float(v.z), x[3] = __uint_as_float(v.w);
#else
    widen_word(v.x, x[0], x[1]);
    widen_word(v.y, x[2], x[3]);
    widen_word(v.z, x[4], x[5]);
    widen_word(v.w, x[6], x[7]);
#endif
}

__device__ __forceinline__ double warp_sum(double x) {
    for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(~0u, x, step);
    return x;
}

// The sums up to and with each lane.
__device__ __forceinline__ double warp_scan(double x) {
    int lane = threadIdx.x & 31;
    for (int step = 1; step < 32; step <<= 1) {
        double below = __shfl_up_sync(~0u, x, step);
        if (lane >= step) x += below;
    }
    return x;
}
