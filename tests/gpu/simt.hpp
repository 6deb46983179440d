// A cluster of blocks of threads on the host: what a kernel asks of the machine, for kernels that ask for no more. A thread is
// a coroutine, and runs until it waits for others; shared memory begins with garbage in it, and a read of another block's
// memory outside of it ends the program. Stands in for cluster.cuh.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

#define THREADS 64
#define WARPS (THREADS / 32)
#define BLOCKS_AT_ONCE 3
#define LARGEST 1e8f
#define INF INFINITY

#if DTYPE == 0
typedef float Logit;
#define WIDE 4
#else
typedef unsigned short Logit;
#define WIDE 8
#endif
#define TILE (32 * WIDE)

namespace simt {

struct Thread {
    ucontext_t context;
    unsigned number, block;
    bool done;
    std::vector<char> stack = std::vector<char>(64 << 10);
};

struct Barrier {
    int arrived = 0, times = 0;
};

struct Machine {
    std::vector<Thread> threads;
    ucontext_t scheduler;
    Thread* now = nullptr;
    unsigned blocks = 1, cluster = 0;
    std::vector<std::vector<unsigned char>> memory;
    Barrier all;
    std::vector<Barrier> of_block, of_warp;
    std::vector<uint64_t> held;
    std::function<void()> kernel;
    // How often a thread has come to a barrier or to its end.
    size_t steps = 0;
};

inline Machine machine;

[[noreturn]] inline void fail(const char* what) {
    std::fprintf(stderr, "%s\n", what);
    std::exit(3);
}

inline void wait(Barrier& barrier, int count) {
    const int times = barrier.times;
    machine.steps += 1;
    if (++barrier.arrived == count) {
        barrier.arrived = 0;
        barrier.times += 1;
        return;
    }
    while (barrier.times == times) swapcontext(&machine.now->context, &machine.scheduler);
}

inline void run() {
    machine.kernel();
    machine.steps += 1;
    machine.now->done = true;
    swapcontext(&machine.now->context, &machine.scheduler);
}

// Runs a kernel with so many clusters of so many blocks, each block with so much shared memory.
inline void launch(unsigned clusters, unsigned blocks, size_t shared, std::function<void()> kernel) {
    machine.kernel = kernel;
    machine.blocks = blocks;
    machine.threads.resize(blocks * THREADS);
    for (unsigned cluster = 0; cluster < clusters; cluster++) {
        machine.cluster = cluster;
        machine.memory.assign(blocks, std::vector<unsigned char>(shared, 0xa5));
        machine.all = Barrier();
        machine.of_block.assign(blocks, Barrier());
        machine.of_warp.assign(blocks * WARPS, Barrier());
        machine.held.assign(blocks * THREADS, 0);
        for (unsigned i = 0; i < blocks * THREADS; i++) {
            Thread& thread = machine.threads[i];
            thread.number = i % THREADS, thread.block = i / THREADS, thread.done = false;
            getcontext(&thread.context);
            thread.context.uc_stack.ss_sp = thread.stack.data();
            thread.context.uc_stack.ss_size = thread.stack.size();
            makecontext(&thread.context, run, 0);
        }
        // A round in which no thread arrives anywhere or ends would be followed by others.
        for (size_t before = machine.steps + 1; before != machine.steps;) {
            before = machine.steps;
            for (Thread& thread : machine.threads) {
                if (thread.done) continue;
                machine.now = &thread;
                swapcontext(&machine.scheduler, &thread.context);
            }
        }
        for (const Thread& thread : machine.threads) {
            if (!thread.done) fail("threads wait for others that do not come");
        }
    }
}

struct ThreadX {
    operator unsigned() const { return machine.now->number; }
};
struct BlockX {
    operator unsigned() const { return machine.cluster * machine.blocks + machine.now->block; }
};

inline unsigned warp() { return machine.now->block * WARPS + machine.now->number / 32; }

// What `read` makes of what the lanes of a warp hold.
template <class T, class Read>
auto among_lanes(T x, const Read& read) {
    uint64_t* held = &machine.held[warp() * 32];
    std::memcpy(&held[machine.now->number % 32], &x, sizeof x);
    wait(machine.of_warp[warp()], 32);
    const auto found = read([&](unsigned lane) {
        T of_lane;
        std::memcpy(&of_lane, &held[lane], sizeof of_lane);
        return of_lane;
    });
    wait(machine.of_warp[warp()], 32);
    return found;
}

template <class T>
T of_lane(T x, unsigned lane) {
    return among_lanes(x, [&](auto of_lane) { return of_lane(lane % 32); });
}

template <class T>
const T& there(const T* p, unsigned rank) {
    const std::vector<unsigned char>& own = machine.memory[machine.now->block];
    const size_t offset = size_t(reinterpret_cast<const unsigned char*>(p) - own.data());
    if (rank >= machine.blocks || offset + sizeof(T) > own.size()) fail("a read outside of a block's memory");
    return *reinterpret_cast<const T*>(machine.memory[rank].data() + offset);
}

}  // namespace simt

inline struct { simt::ThreadX x; } threadIdx;
inline struct { simt::BlockX x; } blockIdx;

inline unsigned block_in_cluster() { return simt::machine.now->block; }
inline unsigned blocks_of_cluster() { return simt::machine.blocks; }
inline void cluster_sync() { simt::wait(simt::machine.all, int(simt::machine.threads.size())); }
inline void __syncthreads() { simt::wait(simt::machine.of_block[simt::machine.now->block], THREADS); }
inline unsigned char* shared_memory() { return simt::machine.memory[simt::machine.now->block].data(); }

inline unsigned remote_u32(const unsigned* p, unsigned rank) { return simt::there(p, rank); }
inline float remote_f32(const float* p, unsigned rank) { return simt::there(p, rank); }
inline unsigned long long remote_u64(const unsigned long long* p, unsigned rank) { return simt::there(p, rank); }

template <class T>
T __shfl_sync(unsigned, T x, int lane) {
    return simt::of_lane(x, unsigned(lane));
}
template <class T>
T __shfl_xor_sync(unsigned, T x, int mask) {
    return simt::of_lane(x, simt::machine.now->number % 32 ^ unsigned(mask));
}
template <class T>
T __shfl_up_sync(unsigned, T x, int step) {
    const unsigned lane = simt::machine.now->number % 32;
    return simt::of_lane(x, lane < unsigned(step) ? lane : lane - unsigned(step));
}
inline unsigned __reduce_add_sync(unsigned, unsigned x) {
    return simt::among_lanes(x, [](auto of_lane) {
        uint64_t sum = 0;
        for (unsigned lane = 0; lane < 32; lane++) sum += of_lane(lane);
        if (sum >> 32 != 0) simt::fail("a sum over a warp overflows");
        return unsigned(sum);
    });
}
inline unsigned __ballot_sync(unsigned, bool yes) {
    return __reduce_add_sync(~0u, yes ? 1u << simt::machine.now->number % 32 : 0u);
}
inline bool __all_sync(unsigned, bool yes) { return __ballot_sync(~0u, yes) == ~0u; }
inline int __ffs(int x) { return __builtin_ffs(x); }

inline unsigned atomicAdd(unsigned* p, unsigned x) {
    const unsigned before = *p;
    *p += x;
    return before;
}
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline float max_or_nan(float a, float b) { return std::isnan(a) || a > b ? a : b; }

struct uint4 {
    unsigned x, y, z, w;
};
inline uint4 __ldg(const uint4* p) {
    if (reinterpret_cast<uintptr_t>(p) % 16 != 0) simt::fail("16 bytes are read from an address between");
    return *p;
}

// Logits, f32 and bf16 and f16.
inline float widen(Logit x) {
#if DTYPE == 0
    return x;
#else
    unsigned bits = unsigned(x) << 16;
    float wide;
#if DTYPE == 1
    // The exponent 112 higher; subnormal numbers are multiples of 2^-24.
    const unsigned sign = bits & 0x80000000u, size = x & 0x7fffu;
    if (size < 0x400u) return (sign ? -1.0f : 1.0f) * std::ldexp(float(size), -24);
    bits = sign | (size >= 0x7c00u ? 0x7f800000u | (size & 0x3ffu) << 13 : (size << 13) + (112u << 23));
#endif
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
#endif
}
inline Logit masked() {
#if DTYPE == 0
    return -INF;
#else
    return DTYPE == 1 ? 0xfc00 : 0xff80;
#endif
}
inline void widen_vector(uint4 v, float (&x)[WIDE]) {
    Logit logits[WIDE];
    std::memcpy(logits, &v, sizeof logits);
    for (int j = 0; j < WIDE; j++) x[j] = widen(logits[j]);
}
