// The discount rho* of k-SEQ, from a pair of rows in shared memory: a search over ratios, 30 bins of all tokens first,
// then 32 bins of what is in the bin that holds rho*, twice. In the end a bin is 1e-4 of a unit of log-ratio wide or less,
// and its tokens count as of one ratio.
#pragma once
#include "count.cuh"

#define BINS 32
#define LEVELS 3
#define MARGIN 0.01  // of the range of log-ratios beyond [-ln k, 0]

// The counts of a block by bins, each lane its own: no lane waits for another.
struct Bins {
    unsigned p[BINS][32];
    unsigned q[BINS][32];
};

static_assert(sizeof(Bins) <= sizeof(Counts), "both take the same room");

// 1 - (1 - x)^k, as sums of what is not negative: by doubling, a_2n = a_n(2 - a_n) and a_(n+1) = a_n + x(1 - a_n).
__device__ __forceinline__ double any_of(double x, int k) {
    x = fmin(x, 1.0);
    double a = x;
    for (int bit = (31 - __clz(k)) - 1; bit >= 0; bit--) {
        a *= 2.0 - a;
        if (k >> bit & 1) a += x * (1.0 - a);
    }
    return a;
}

// Whether rho is at or above the root of p_acc(rho) = rho*beta(rho). 64 eps is rounding of 0.
__device__ __forceinline__ bool is_valid(double rho, double beta, int k) {
    return any_of(beta, k) - rho * fmin(beta, 1.0) <= 1.4e-14;
}

// A stretch of the axis of grid numbers, in bins: bin b of a token at `place` is floor((place - low)*per_bin) == b.
struct Stretch {
    float low, per_bin;
    double log_low, log_bin;  // the log-ratio of its lower end, and the width of a bin

    __device__ __forceinline__ float at(float place) const { return (place - low) * per_bin; }
};

__device__ __forceinline__ float place_of(float d, float t, float per_width) {
    return __fmul_rn(__fsub_rn(d, t), per_width);
}

// Where the bin below the first stretch begins.
__device__ __forceinline__ float low_of_all(const Stretch& first) { return first.low - 1.0f / first.per_bin; }

// Counts all tokens: bin 0 is what is below the stretch, the last bin what is above.
__device__ __forceinline__ void count_all(const Pair& rows, float per_width, const Stretch& first, Bins& bins) {
    int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    float scale[2] = {rows.share[0] * ONE, rows.share[1] * ONE};
    float rest[WIDE];
#pragma unroll
    for (int j = 0; j < WIDE; j++) rest[j] = remainder_of(j);
    // floor(x) + 1, kept to the bins, by the low bits of x + 2^23.
    float low = low_of_all(first);
    int tiles = (rows.target.count + TILE - 1) / TILE;
    for (int tile = warp; tile < tiles; tile += WARPS) {
        int at = tile * TILE + lane * WIDE;
        float d[WIDE], t[WIDE];
        rows.draft.load(at, d);
        rows.target.load(at, t);
        unsigned bin[WIDE], p[WIDE], q[WIDE];
        unsigned bits = 0;
#pragma unroll
        for (int j = 0; j < WIDE; j++) {
            float x = (place_of(d[j], t[j], per_width) - low) * first.per_bin;
            bin[j] = __float_as_uint(__fadd_rd(fminf(fmaxf(x, 0.0f), (float)(BINS - 1)), INTEGER)) - __float_as_uint(INTEGER);
            d[j] = fmaf(exp2_fast(fmaf(d[j], LOG2_E, rows.shift[0])), scale[0], rest[j]);
            t[j] = fmaf(exp2_fast(fmaf(t[j], LOG2_E, rows.shift[1])), scale[1], rest[j]);
            p[j] = __float_as_uint(__fadd_rd(d[j], INTEGER));
            q[j] = __float_as_uint(__fadd_rd(t[j], INTEGER));
            bits |= p[j] | q[j];
        }
        if (bits & 0x04800000u) {
            // Some mass is 2^-8 or more, and no longer in the low bits.
#pragma unroll
            for (int j = 0; j < WIDE; j++) p[j] = __float2uint_rz(d[j]), q[j] = __float2uint_rz(t[j]);
        } else {
#pragma unroll
            for (int j = 0; j < WIDE; j++) p[j] -= __float_as_uint(INTEGER), q[j] -= __float_as_uint(INTEGER);
        }
#pragma unroll
        for (int j = 0; j < WIDE; j++) {
            atomicAdd(&bins.p[bin[j]][lane], p[j]);
            atomicAdd(&bins.q[bin[j]][lane], q[j]);
        }
    }
}

// Which bin of a stretch a token is in, by the same arithmetic whoever asks.
__device__ __forceinline__ int bin_of_all(float place, float low, const Stretch& first) {
    float x = (place - low) * first.per_bin;
    return (int)floorf(fminf(fmaxf(x, 0.0f), (float)(BINS - 1)));
}
__device__ __forceinline__ int bin_of(float place, const Stretch& stretch) {
    return (int)floorf(fminf(fmaxf(stretch.at(place), 0.0f), (float)(BINS - 1)));
}

// Counts the tokens in `outer` of the first stretch, and of those in `inner` of the second if it is not negative, by the
// bins of `into`.
__device__ __forceinline__ void count_some(const Pair& rows, float per_width, const Stretch& first, int outer,
                                           const Stretch& second, int inner, const Stretch& into, Bins& bins) {
    int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    float scale[2] = {rows.share[0] * ONE, rows.share[1] * ONE};
    // A look at the place that passes all that are inside, and few others.
    float from = into.low - 1.0f / into.per_bin, to = into.low + (float)(BINS + 1) / into.per_bin;
    float low = low_of_all(first);
    auto count = [&](float d, float t, int j) {
        float place = place_of(d, t, per_width);
        if (bin_of_all(place, low, first) != outer || (inner >= 0 && bin_of(place, second) != inner)) return;
        float rest = remainder_of(j);
        int bin = bin_of(place, into);
        atomicAdd(&bins.p[bin][lane],
                  __float2uint_rz(fmaf(exp2_fast(fmaf(d, LOG2_E, rows.shift[0])), scale[0], rest)));
        atomicAdd(&bins.q[bin][lane],
                  __float2uint_rz(fmaf(exp2_fast(fmaf(t, LOG2_E, rows.shift[1])), scale[1], rest)));
    };
    int tiles = (rows.target.count + TILE - 1) / TILE;
    for (int tile = warp; tile < tiles; tile += WARPS) {
        int at = tile * TILE + lane * WIDE;
        float d[WIDE], t[WIDE];
        rows.draft.load(at, d);
        rows.target.load(at, t);
        unsigned near = 0;
#pragma unroll
        for (int j = 0; j < WIDE; j++) {
            float place = place_of(d[j], t[j], per_width);
            near |= place >= from && place <= to ? 1u << j : 0u;
        }
        if (__all_sync(~0u, near == (1u << WIDE) - 1)) {
            // Equal or uniform rows.
#pragma unroll
            for (int j = 0; j < WIDE; j++) count(d[j], t[j], j);
        } else {
            // A few: each lane takes its next.
            while (near) {
                int j = __ffs((int)near) - 1;
                near &= near - 1;
                count(rows.draft.at(at + j), rows.target.at(at + j), j);
            }
        }
    }
}

// The sum of one number of each block of the cluster. All are asked for before the first has come.
__device__ __forceinline__ unsigned sum_of_blocks(const unsigned* p) {
    unsigned blocks = blocks_of_cluster(), x[MOST_BLOCKS], sum = 0;
#pragma unroll
    for (unsigned block = 0; block < MOST_BLOCKS; block++) x[block] = block < blocks ? remote_u32(p, block) : 0u;
#pragma unroll
    for (unsigned block = 0; block < MOST_BLOCKS; block++) sum += x[block];
    return sum;
}

// The sums of the bins over the cluster; lane b of every warp holds those of bin b.
__device__ __forceinline__ void gather(Shared& shared, Bins& bins, int level, unsigned& p, unsigned& q) {
    int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    __syncthreads();
    for (int bin = warp; bin < BINS; bin += WARPS) {
        unsigned own_p = __reduce_add_sync(~0u, bins.p[bin][lane]), own_q = __reduce_add_sync(~0u, bins.q[bin][lane]);
        if (lane == 0) shared.bins[level][0][bin] = own_p, shared.bins[level][1][bin] = own_q;
    }
    cluster_sync();
    // Two warps add up the blocks' sums, and hand them to the others.
    if (warp < 2) shared.bin_sums[warp][lane] = sum_of_blocks(&shared.bins[level][warp][lane]);
    if (level + 1 < LEVELS) {
        for (int i = threadIdx.x; i < BINS * 32; i += THREADS) bins.p[i / 32][i % 32] = bins.q[i / 32][i % 32] = 0;
    }
    __syncthreads();
    p = shared.bin_sums[0][lane], q = shared.bin_sums[1][lane];
}

__device__ __forceinline__ unsigned scan_counts(unsigned x) {
    for (int step = 1; step < 32; step <<= 1) {
        unsigned below = __shfl_up_sync(~0u, x, step);
        if ((int)(threadIdx.x & 31) >= step) x += below;
    }
    return x;
}

// What one level of the search leaves for the next.
struct Search {
    Stretch stretch[LEVELS];
    int chosen[LEVELS];
    double p_scale, q_scale, whole, discounted, p_here, q_here;
};

// rho* and beta(rho*), the same in every thread of every block. The bins are cleared before. One warp of each block
// searches.
__device__ __forceinline__ void find_rho(Shared& shared, Bins& bins, const Pair& rows, float per_width, int k, double& rho,
                                         double& beta) {
    int lane = threadIdx.x & 31;
    bool searches = threadIdx.x < 32;
    __shared__ Search search;
    double offset = rows.log_sum[0] - rows.log_sum[1], width = 1.0 / (double)per_width;
#pragma unroll 1
    for (int level = 0; level < LEVELS; level++) {
        if (threadIdx.x == 0) {
            Stretch& here = search.stretch[level];
            if (level == 0) {
                here.log_low = -log((double)k) - MARGIN;
                here.log_bin = (MARGIN - here.log_low) / (BINS - 2);
                search.whole = search.discounted = 0.0;
            } else {
                // Bin 0 of the first stretch is below it.
                const Stretch& before = search.stretch[level - 1];
                int bin = level == 1 ? search.chosen[0] - 1 : search.chosen[1];
                here.log_low = before.log_low + before.log_bin * (double)bin;
                here.log_bin = before.log_bin / BINS;
            }
            here.low = (float)((here.log_low + offset) * (double)per_width);
            here.per_bin = (float)(width / here.log_bin);
        }
        __syncthreads();
        const Stretch first = search.stretch[0], here = search.stretch[level];
        if (level == 0) {
            count_all(rows, per_width, first, bins);
        } else {
            count_some(rows, per_width, first, search.chosen[0], search.stretch[1], level == 2 ? search.chosen[1] : -1, here,
                       bins);
        }
        unsigned p, q;
        gather(shared, bins, level, p, q);
        if (searches) {
            unsigned upto_p = scan_counts(p), upto_q = scan_counts(q), total_q = __shfl_sync(~0u, upto_q, 31);
            double p_scale = level == 0 ? 1.0 / (double)__shfl_sync(~0u, upto_p, 31) : search.p_scale;
            double q_scale = level == 0 ? 1.0 / (double)total_q : search.q_scale;
            // The lower end of this lane's bin: what is below counts whole, the rest discounted. rho falls from bin to bin;
            // the last bin whose end is valid holds rho*.
            double log_ratio = here.log_low + here.log_bin * (double)(level == 0 ? lane - 1 : lane);
            double below = search.whole + (double)(upto_p - p) * p_scale;
            double above = search.discounted + (double)(total_q - upto_q + q) * q_scale;
            bool valid = false;
            if (log_ratio <= 0.0) {
                double at = exp(-log_ratio);
                valid = at >= (double)k || is_valid(at, below + above / at, k);
            }
            unsigned good = __ballot_sync(~0u, valid);
            // Below the first stretch there is nothing to look for: its lower end is beyond k.
            int bin = max(good ? 31 - __clz((int)good) : 0, level == 0 ? 1 : 0);
            __syncwarp();
            if (lane == bin) {
                search.chosen[level] = bin;
                search.p_scale = p_scale, search.q_scale = q_scale;
                search.whole = below;
                search.p_here = (double)p * p_scale, search.q_here = (double)q * q_scale;
                search.discounted = above - (double)q * q_scale;
            }
        }
        __syncthreads();
    }
    if (searches) {
        const Stretch& last = search.stretch[LEVELS - 1];
        double log_upper = -(last.log_low + last.log_bin * (double)search.chosen[LEVELS - 1]);
        double upper = fmin(fmax(exp(log_upper), 1.0), (double)k);
        double lower = fmin(fmax(exp(log_upper - last.log_bin), 1.0), (double)k);
        auto beta_at = [&](double at) {
            return fmin(search.whole + search.discounted / at + fmin(search.p_here, search.q_here / at), 1.0);
        };
        // 32 points at a time: three rounds leave 3e-5 of a bin.
        for (int round = 0; round < 3 && upper > lower; round++) {
            double gap = (upper - lower) / 32.0, at = lower + gap * (double)lane;
            unsigned good = __ballot_sync(~0u, is_valid(at, beta_at(at), k));
            // The smallest point that is valid; above all of them is the upper end.
            int point = good ? __ffs((int)good) - 1 : 32;
            if (point < 32) upper = lower + gap * (double)point;
            lower = point == 0 ? upper : upper - gap;
        }
        if (lane == 0) shared.scratch[0] = upper, shared.scratch[1] = beta_at(upper);
    }
    __syncthreads();
    rho = shared.scratch[0];
    beta = shared.scratch[1];
}
