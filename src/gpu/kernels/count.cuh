// Counting a pair of rows into ratio cells, in integers: the sums do not depend on the order in which they are added.
//
// A block counts in units of its own, the finest in which all of its chunk's mass is below 2^31: 2^-34 where eight blocks
// share the mass evenly. A mass is rounded to them at random (one remainder for each thread and place, spread evenly, the
// same for both rows): the errors of many tokens cancel as they would not if all of one logit were rounded alike. The
// last cell, where q is below e^-8 of p, has a finer unit for q: the draft mass on its edge is q times e^8.
#pragma once
#include "rows.cuh"

#define ROUND 12582912.0f   // 1.5*2^23: added to a number below 2^22 in size, it rounds it to an integer
#define INTEGER 8388608.0f  // 2^23: added to a number from 0 to below 2^23, it leaves its integer in the low bits
#define ONE 2147483648.0f   // 2^31, what is counted at most

#ifndef MOST_COUNTS
#define MOST_COUNTS 1040  // cells of a token rule
#endif

// The draft and the target mass of each cell of a block's chunk.
struct Counts {
    unsigned p[MOST_COUNTS];
    unsigned q[MOST_COUNTS];
};

// How tokens are told apart.
struct Cells {
    float per_width;
    int first, last;    // the grid number of cell 1; the number of the last cell
    float low, high;    // the grid numbers of cells 0 and `last`
    unsigned zero;      // the bits of ROUND plus the grid number of cell 0

    __device__ __forceinline__ Cells() {}
    __device__ __forceinline__ Cells(float per_width, int first, int last)
        : per_width(per_width), first(first), last(last), low((float)(first - 1)), high((float)(first - 1 + last)),
          zero(__float_as_uint(ROUND) + (unsigned)(first - 1)) {}

    // The place of a token on the axis on which the grid numbers are the integers, kept to the cells. Of a token masked
    // in both rows it is anything.
    __device__ __forceinline__ float place(float d, float t) const {
        return fminf(fmaxf(__fmul_rn(__fsub_rn(d, t), per_width), low), high);
    }

    __device__ __forceinline__ unsigned cell(float place) const {
        return __float_as_uint(__fadd_rn(place, ROUND)) - zero;
    }
};

// The cells of a row pair whose normalisers are known. The numbers of `Scan::counted`.
__device__ __forceinline__ bool cells_of(const Grid& grid, const Pair& rows, int most, Cells& cells) {
    double per_width = (double)grid.per_width, offset = rows.log_sum[0] - rows.log_sum[1];
    double lowest = floor((grid.log_lowest + offset) * per_width + 0.5);
    double highest = ceil((LOG_HIGHEST + offset) * per_width + 0.5);
    // Far apart the rows differ by more than the grid numbers that f32 can tell: everything is in the outermost cells.
    lowest = fmin(fmax(lowest, -2e6), 2e6), highest = fmin(fmax(highest, -2e6), 2e6);
    cells = Cells(grid.per_width, (int)lowest, (int)(highest - lowest) + 1);
    return cells.last < most;
}

// A rounding for each thread and place of a vector: an even sequence over lanes and places.
__device__ __forceinline__ float remainder_of(int place) {
    unsigned x = (threadIdx.x * WIDE + (unsigned)place) * 0x9E3779B9u;  // the golden ratio's multiples
    return (float)(x >> 9) * 1.1920929e-7f;                            // 2^-23: in [0, 1)
}

__device__ __forceinline__ void add(Counts& counts, unsigned cell, unsigned p, unsigned q) {
    atomicAdd(&counts.p[cell], p);
    atomicAdd(&counts.q[cell], q);
}

// Sums over a warp whose tokens are all in one cell, as in equal or uniform rows: the lanes would wait for each other.
__device__ __noinline__ void add_together(Counts& counts, unsigned cell, unsigned p, unsigned q) {
    p = __reduce_add_sync(~0u, p), q = __reduce_add_sync(~0u, q);
    if ((threadIdx.x & 31) == 0) add(counts, cell, p, q);
}

// The exponent of 2 below which all mass of a chunk stays, by the sum of its powers.
__device__ __forceinline__ int exponent_of(double sum, float most, float shift, float share) {
    double mass = most > -INF ? sum * exp2((double)shift - (double)shift_of(most)) * (double)share : 0.0;
    // Not below -9: finer than the rounding of the masses themselves would be for nothing.
    return mass > 0.0 ? min(max(ilogb(mass) + 1, -9), 1) : -9;
}

#define LAST_EXPONENT -11  // e^-8 is below 2^-11

// Counts a block's chunk.
__device__ __forceinline__ void count_chunk(Shared& shared, const Pair& rows, const Cells& cells, Counts& counts) {
    int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    int exponents[3];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        exponents[i] = exponent_of(shared.mine.sum[i], shared.mine.max[i], rows.shift[i], rows.share[i]);
    }
    exponents[2] = min(exponents[1], LAST_EXPONENT);
    float scale[3];
#pragma unroll
    for (int i = 0; i < 3; i++) {
        scale[i] = rows.share[i == 0 ? 0 : 1] * ldexpf(ONE, -exponents[i]);
        if (threadIdx.x == 0) shared.mine.unit[i] = ldexp(1.0 / (double)ONE, exponents[i]);
    }
    float rest[WIDE];
#pragma unroll
    for (int j = 0; j < WIDE; j++) rest[j] = remainder_of(j);
    int tiles = (rows.target.count + TILE - 1) / TILE;
    for (int tile = warp; tile < tiles; tile += WARPS) {
        int at = tile * TILE + lane * WIDE;
        float d[WIDE], t[WIDE];
        rows.draft.load(at, d);
        rows.target.load(at, t);
        unsigned cell[WIDE], p[WIDE], q[WIDE];
        unsigned differ = 0, bits = 0;
#pragma unroll
        for (int j = 0; j < WIDE; j++) {
            cell[j] = cells.cell(cells.place(d[j], t[j]));
            differ |= cell[j] ^ cell[0];
            d[j] = fmaf(exp2_fast(fmaf(d[j], LOG2_E, rows.shift[0])), scale[0], rest[j]);
            float to_counts = cell[j] == (unsigned)cells.last ? scale[2] : scale[1];
            t[j] = fmaf(exp2_fast(fmaf(t[j], LOG2_E, rows.shift[1])), to_counts, rest[j]);
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
        differ |= cell[0] ^ __shfl_sync(~0u, cell[0], 0);
        if (!__any_sync(~0u, differ != 0)) {
            unsigned sum_p = 0, sum_q = 0;
#pragma unroll
            for (int j = 0; j < WIDE; j++) sum_p += p[j], sum_q += q[j];
            add_together(counts, cell[0], sum_p, sum_q);
        } else {
#pragma unroll
            for (int j = 0; j < WIDE; j++) add(counts, cell[j], p[j], q[j]);
        }
    }
}

__device__ __forceinline__ void clear(Counts& counts) {
    for (int i = threadIdx.x; i < MOST_COUNTS; i += THREADS) counts.p[i] = counts.q[i] = 0;
}

// The masses of the cells over the cluster, each block a slice of them, to device memory. The cluster's blocks must not
// leave before all are done.
__device__ __forceinline__ void write_masses(const Shared& shared, const Counts& counts, int cells, double2* out) {
    int blocks = (int)blocks_of_cluster(), rank = (int)block_in_cluster();
    cluster_sync();
    int each = (cells + blocks - 1) / blocks, from = rank * each, end = min(from + each, cells);
    for (int i = from + (int)threadIdx.x; i < end; i += THREADS) {
        unsigned p[MOST_BLOCKS], q[MOST_BLOCKS];
#pragma unroll
        for (int block = 0; block < MOST_BLOCKS; block++) {
            p[block] = block < blocks ? remote_u32(&counts.p[i], block) : 0u;
            q[block] = block < blocks ? remote_u32(&counts.q[i], block) : 0u;
        }
        double2 sums = make_double2(0.0, 0.0);
#pragma unroll
        for (int block = 0; block < MOST_BLOCKS; block++) {
            if (block < blocks) {
                sums.x += (double)p[block] * remote_f64(&shared.mine.unit[0], block);
                sums.y += (double)q[block] * remote_f64(&shared.mine.unit[i + 1 == cells ? 2 : 1], block);
            }
        }
        out[i] = sums;
    }
}
