// Thresholds of top-k, top-p and min-p filters: a cluster of blocks a row, which is read from device memory once where its
// parts fit into shared memory.
#ifdef __CUDACC__
#include "cluster.cuh"
#else
#include <simt.hpp>  // of tests/gpu: all that follows runs there too
#endif
#include "filter.cuh"
#include "row.cuh"

using namespace draftpick;

#ifdef __CUDACC__
__device__ __forceinline__ unsigned char* shared_memory() {
    extern __shared__ __align__(128) unsigned char memory[];
    return memory;
}

__device__ __forceinline__ Weight remote_u64(const Weight* p, unsigned rank) {
    Weight x;
    asm volatile("ld." REMOTE_SPACE ".u64 %0, [%1];" : "=l"(x) : "r"(remote(p, rank)) : "memory");
    return x;
}
#endif

// A call; `FilterCall` of src/gpu/filter.rs.
struct Filters {
    const void* logits;
    long long stride;      // from row to row, in logits
    long long row_count;   // how many rows there are
    const int* rows;       // [count]: the row of each filter, negative where there is none; or null: filter i has row i
    const float* scale;    // inverse temperatures, one a filter; or null: 1
    const int* top_k;      // one a filter; or null: `all_k`
    const float* top_p;
    const float* min_p;
    float* least;          // [count]: the threshold; +inf where the row or the filter is refused
    int* tie;              // [count]: of the logits at the threshold itself those of tokens below it go too
    int* flags;            // [count]: RowFlag
    int all_k;
    float all_p, all_m;
    int count, vocab;
    int chunk;             // tokens of a block, a multiple of 8
};

// The shared memory of a block ahead of the sums of its bins and its chunk.
struct Common {
    unsigned low[BINS], high[BINS];  // the sums of the block's own tokens: their lower and their upper 32 bits
    Weight warp_sums[WARPS];
    Weight total;                    // of the bins that this block adds up for the cluster
    Bin found;
    float warp_max[WARPS], max;
};

#define COMMON_BYTES 16640
static_assert(sizeof(Common) <= COMMON_BYTES, "the host counts on it");

// How many of a key's lowest bits are the same in all logits of the format.
#if DTYPE == 0
#define CONSTANT_BITS 0
#elif DTYPE == 1
#define CONSTANT_BITS 13
#else
#define CONSTANT_BITS 16
#endif

__device__ __forceinline__ Weight warp_scan(Weight x) {
    const int lane = threadIdx.x & 31;
    for (int step = 1; step < 32; step <<= 1) {
        const Weight below = __shfl_up_sync(~0u, x, step);
        if (lane >= step) x += below;
    }
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
    for (int step = 16; step > 0; step >>= 1) x = max_or_nan(x, __shfl_xor_sync(~0u, x, step));
    return x;
}

// Adds to a bin. What overflows the lower half is noticed by the one addition that makes it.
__device__ __forceinline__ void add(Common& shared, unsigned bin, Weight weight) {
    const unsigned low = (unsigned)weight, before = atomicAdd(&shared.low[bin], low);
    const unsigned high = (unsigned)(weight >> 32) + (before + low < before ? 1u : 0u);
    if (high > 0) atomicAdd(&shared.high[bin], high);
}

// A block's chunk of a row.
struct Chunk {
    Common& shared;
    Weight* sums;         // of the bins that this block adds up for the cluster, each with those before it
    const Logit* logits;  // in shared memory if RESIDENT, and then padded to whole tiles
    float scale;
    float most;           // the row's largest logit
    int from, count;      // the first token, and the number of tokens
    int drop;             // of a key's lowest bits, these are of no account
    bool aligned;

    // The logits from `at` on, a multiple of WIDE; -inf beyond the end.
    __device__ __forceinline__ void load(int at, float (&x)[WIDE]) const {
#if RESIDENT
        widen_vector(*reinterpret_cast<const uint4*>(logits + at), x);
#else
        if (aligned && at + WIDE <= count) {
            widen_vector(__ldg(reinterpret_cast<const uint4*>(logits + at)), x);
        } else {
#pragma unroll
            for (int j = 0; j < WIDE; j++) x[j] = at + j < count ? widen(logits[at + j]) : -INF;
        }
#endif
#pragma unroll
        for (int j = 0; j < WIDE; j++) x[j] *= scale;
    }

    __device__ __forceinline__ float largest() const {
        float most = -INF;
        for (int at = threadIdx.x * WIDE; at < count; at += THREADS * WIDE) {
            float x[WIDE];
            load(at, x);
#pragma unroll
            for (int j = 0; j < WIDE; j++) most = max_or_nan(most, x[j]);
        }
        return most;
    }

    // The block's own sums.
    template <int WHAT>
    __device__ __forceinline__ void fill(const Interval& interval, unsigned tied) {
        const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
        for (int tile = warp; tile * TILE < count; tile += WARPS) {
            const int at = tile * TILE + lane * WIDE;
            float x[WIDE];
            load(at, x);
            unsigned keys[WIDE], inside = 0, differ = 0;
#pragma unroll
            for (int j = 0; j < WIDE; j++) {
                keys[j] = key_of(x[j]) >> drop;
                bool counts = true;
                if (WHAT == TIES) {
                    counts = keys[j] == tied;
                    keys[j] = (unsigned)(from + at + j);
                }
                if (counts && interval.holds(keys[j])) inside |= 1u << j;
                keys[j] = interval.bin(keys[j]);
                differ |= keys[j] ^ keys[0];
            }
            const unsigned first = __shfl_sync(~0u, keys[0], 0);
            if (__all_sync(~0u, inside == (1u << WIDE) - 1 && differ == 0 && keys[0] == first)) {
                // All in one bin, as in flat rows: the lanes would wait for each other.
                Weight own = WIDE;
                if (WHAT == MASSES) {
                    own = 0;
#pragma unroll
                    for (int j = 0; j < WIDE; j++) own += mass_of(x[j], most);
                }
                const unsigned lower = __reduce_add_sync(~0u, (unsigned)own & 0x3ffffffu);
                const unsigned upper = __reduce_add_sync(~0u, (unsigned)(own >> 26));
                if (lane == 0) add(shared, first, ((Weight)upper << 26) + lower);
            } else {
#pragma unroll
                for (int j = 0; j < WIDE; j++) {
                    if (inside >> j & 1) {
                        if (WHAT == MASSES) {
                            add(shared, keys[j], mass_of(x[j], most));
                        } else {
                            atomicAdd(&shared.low[keys[j]], 1u);
                        }
                    }
                }
            }
        }
    }

    // The sum of a bin over the cluster.
    __device__ __forceinline__ Weight sum_of(int bin) const {
        const unsigned blocks = blocks_of_cluster();
        Weight sum = 0;
        for (unsigned block = 0; block < blocks; block++) {
            sum += ((Weight)remote_u32(&shared.high[bin], block) << 32) + remote_u32(&shared.low[bin], block);
        }
        return sum;
    }

    // See `cut_of`. All threads of the cluster together; each gets the answer.
    template <class Limit>
    __device__ __forceinline__ Bin level(What what, const Interval& interval, unsigned tied, Weight below,
                                         const Limit& limit_of) {
        const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
        const int blocks = (int)blocks_of_cluster(), rank = (int)block_in_cluster();
        for (int i = threadIdx.x; i < BINS; i += THREADS) shared.low[i] = shared.high[i] = 0;
        __syncthreads();
        switch (what) {
            case TOKENS: fill<TOKENS>(interval, tied); break;
            case MASSES: fill<MASSES>(interval, tied); break;
            case TIES: fill<TIES>(interval, tied); break;
        }
        cluster_sync();
        // Each block adds up its share of the bins: a thread some neighbours, then the threads together.
        const int share = BINS / blocks, each = max(share / THREADS, 1), first = (int)threadIdx.x * each;
        Weight own = 0;
        for (int i = first; i < min(first + each, share); i++) {
            own += sum_of(rank * share + i);
            sums[i] = own;
        }
        const Weight upto = warp_scan(own);
        if (lane == 31) shared.warp_sums[warp] = upto;
        __syncthreads();
        Weight before = upto - own;
        for (int i = 0; i < warp; i++) before += shared.warp_sums[i];
        for (int i = first; i < min(first + each, share); i++) sums[i] += before;
        if (threadIdx.x == THREADS - 1) shared.total = before + own;
        cluster_sync();
        if (warp == 0) {
            // The first block in whose share the sum passes the limit, the first group of bins there, and the bin.
            const Weight theirs = lane < blocks ? remote_u64(&shared.total, lane) : 0;
            const Weight scan = warp_scan(theirs), all = __shfl_sync(~0u, scan, 31), limit = limit_of(all);
            unsigned over = __ballot_sync(~0u, lane < blocks && below + scan > limit);
            const int owner = over ? __ffs((int)over) - 1 : blocks - 1, group = share / 32;
            const Weight lower = below + __shfl_sync(~0u, scan - theirs, owner);
            over = __ballot_sync(~0u, lower + remote_u64(&sums[(lane + 1) * group - 1], owner) > limit);
            const int at = (over ? __ffs((int)over) - 1 : 31) * group;
            int bin = at + group - 1;
            for (int base = 0; base < group; base += 32) {
                const int i = min(base + lane, group - 1);
                over = __ballot_sync(~0u, lower + remote_u64(&sums[at + i], owner) > limit);
                if (over) {
                    bin = at + base + __ffs((int)over) - 1;
                    break;
                }
            }
            if (lane == 0) {
                const Weight under = lower + (bin > 0 ? remote_u64(&sums[bin - 1], owner) : 0);
                const Weight with = lower + remote_u64(&sums[bin], owner);
                shared.found = Bin{(unsigned)(owner * share + bin), under, with - under, all};
            }
        }
        __syncthreads();
        return shared.found;
    }
};

// The largest logit of a row, in all threads of its cluster; NaN if there is one.
__device__ __forceinline__ float largest_of(Common& shared, const Chunk& chunk) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    const float most = warp_max(chunk.largest());
    if (lane == 0) shared.warp_max[warp] = most;
    __syncthreads();
    if (warp == 0) {
        const float all = warp_max(lane < WARPS ? shared.warp_max[lane] : -INF);
        if (lane == 0) shared.max = all;
    }
    cluster_sync();
    return warp_max(lane < (int)blocks_of_cluster() ? remote_f32(&shared.max, lane) : -INF);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
    filter_rows(const __grid_constant__ Filters filters) {
    unsigned char* const memory = shared_memory();
    Common& shared = *reinterpret_cast<Common*>(memory);
    const int index = (int)(blockIdx.x / blocks_of_cluster());
    const int sums_bytes = BINS / (int)blocks_of_cluster() * (int)sizeof(Weight);
    const bool writes = block_in_cluster() == 0 && threadIdx.x == 0;

    const long long row = filters.rows ? filters.rows[index] : index;
    const Filter filter{filters.top_k ? filters.top_k[index] : filters.all_k,
                        filters.top_p ? filters.top_p[index] : filters.all_p,
                        filters.min_p ? filters.min_p[index] : filters.all_m};
    int flags = 0;
    if (row >= filters.row_count) flags |= ROW_NO_SUCH_ROW;
    if (!(filter.top_k >= 1 && filter.top_p >= 0.0f && filter.top_p <= 1.0f && filter.min_p >= 0.0f && filter.min_p <= 1.0f)) {
        flags |= ROW_NO_FILTER;
    }
    if (flags != 0 || row < 0) {
        if (writes) {
            filters.least[index] = flags != 0 ? INF : -INF;
            filters.tie[index] = 0;
            filters.flags[index] = flags;
        }
        return;
    }

    const int from = (int)block_in_cluster() * filters.chunk, count = max(0, min(filters.chunk, filters.vocab - from));
    const Logit* logits = static_cast<const Logit*>(filters.logits) + row * filters.stride + from;
    const bool aligned = ((unsigned long long)logits & 15) == 0;
    const float scale = filters.scale ? filters.scale[index] : 1.0f;
    Chunk chunk{shared, reinterpret_cast<Weight*>(memory + COMMON_BYTES), logits, scale, 0.0f, from, count,
                scale == 1.0f ? CONSTANT_BITS : 0, aligned};
#if RESIDENT
    Logit* room = reinterpret_cast<Logit*>(memory + COMMON_BYTES + sums_bytes);
    const int whole = aligned ? count / WIDE * WIDE : 0, padded = (count + TILE - 1) / TILE * TILE;
    for (int i = threadIdx.x * WIDE; i < whole; i += THREADS * WIDE) {
        *reinterpret_cast<uint4*>(room + i) = __ldg(reinterpret_cast<const uint4*>(logits + i));
    }
    for (int i = whole + threadIdx.x; i < padded; i += THREADS) room[i] = i < count ? logits[i] : masked();
    chunk.logits = room;
#else
    (void)sums_bytes;
#endif
    __syncthreads();
    const float most = largest_of(shared, chunk);
    Threshold found{INF, 0};
    if (!(most <= LARGEST)) {
        flags = ROW_DRAFT_NOT_A_NUMBER;
    } else if (!(most >= -LARGEST)) {
        flags = ROW_DRAFT_ALL_MASKED;
    } else {
        chunk.most = most;
        found = threshold_of(chunk, filter, filters.vocab, most, chunk.drop);
    }
    if (writes) {
        filters.least[index] = found.least;
        filters.tie[index] = found.tie;
        filters.flags[index] = flags;
    }
    // No block leaves while another reads its sums.
    cluster_sync();
}
