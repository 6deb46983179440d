// Counting a pair of rows into ratio cells, in integers: the sums do not depend on the order in which they are added.
//
// A block counts in units of its own, the finest in which all of its chunk's mass is below 2^31: 2^-34 where eight blocks
// share the mass evenly. A mass is rounded to them at random (one remainder for each thread and place, spread evenly, the
// same for both rows): the errors of many tokens cancel as they would not if all of one logit were rounded alike. The
// last cell, where q is below e^-8 of p, has a finer unit for q: the draft mass on its edge is q times e^8.
#pragma once
#include "rows.cuh"

#define ROUND 12582912.0f    // 1.5*2^23: added to a number below 2^22 in size, it rounds it to an integer
#define LEAST 1.40129846e-45f  // 2^-149, the least number: times one below 2^24, rounded down, it leaves its integer in the bits
#define ONE 2147483648.0f    // 2^31, what is counted at most

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
    int zero;           // the bits of ROUND plus the grid number of cell 0

    __device__ __forceinline__ Cells() {}
    __device__ __forceinline__ Cells(const Grid& grid, int first, int last)
        : per_width(grid.per_width), first(first), last(last) {
        zero = __float_as_int(ROUND) + (first - 1);
    }

    // The cell of a token: its place on the axis on which the grid numbers are the integers, rounded, and kept to the
    // cells. Numbers too large to be rounded so, and infinite ones, are ordered as their bits are. Of a token masked in
    // both rows it is anything.
    __device__ __forceinline__ unsigned cell(float d, float t) const { return cell_of(place(d, t)); }

    // Its place, as a number whose bits are those of ROUND plus the grid number. Not fused, as on the CPU: one rounding less would
    // take all tokens of some difference of logits to another cell.
    __device__ __forceinline__ float place(float d, float t) const {
        return __fadd_rn(__fmul_rn(__fsub_rn(d, t), per_width), ROUND);
    }
    __device__ __forceinline__ unsigned cell_of(float place) const {
#if __CUDA_ARCH__ >= 900
        return (unsigned)__viaddmin_s32_relu(__float_as_int(place), -zero, last);
#else
        return (unsigned)max(min(__float_as_int(place) - zero, last), 0);
#endif
    }
    // The place of the tokens of a cell that is neither the first nor the last; that from which on they are in the last.
    __device__ __forceinline__ float place_of(int cell) const { return __int_as_float(zero + cell); }
};

// The cells of a row pair whose normalisers are known: the first number and the last cell. The numbers of `Scan::counted`.
__device__ __forceinline__ void find_cells(const Grid& grid, const double (&log_sum)[2], Found& found) {
    double per_width = (double)grid.per_width, offset = log_sum[0] - log_sum[1];
    double lowest = floor((grid.log_lowest + offset) * per_width + 0.5);
    double highest = ceil((LOG_HIGHEST + offset) * per_width + 0.5);
    // Far apart the rows differ by more than the grid numbers that f32 can tell: everything is in the outermost cells.
    lowest = fmin(fmax(lowest, -2e6), 2e6), highest = fmin(fmax(highest, -2e6), 2e6);
    found.first = (int)lowest, found.last = (int)(highest - lowest) + 1;
}

// A rounding for each thread and place of a vector: an even sequence over lanes and places.
__device__ __forceinline__ float remainder_of(int place) {
    unsigned x = (threadIdx.x * WIDE + (unsigned)place) * 0x9E3779B9u;  // the golden ratio's multiples
    return __uint_as_float(0x3f800000u | x >> 9) - 1.0f;               // in [0, 1)
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

#define LAST_EXPONENT -11   // e^-8 is below 2^-11

// Counts a block's chunk. `HEAVY` where a token's mass may be 2^24 counts or more.
template <bool HEAVY>
__device__ __forceinline__ void count_tiles(const Shared& shared, const Pair& rows, const Cells& cells, Counts& counts) {
    int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    float scale[2] = {shared.of_all.scale[0], shared.of_all.scale[1]};
    float rest[WIDE], last_place = cells.place_of(cells.last);
#pragma unroll
    for (int j = 0; j < WIDE; j++) rest[j] = remainder_of(j);
    int tiles = (rows.target.count + TILE - 1) / TILE;
    for (int tile = warp; tile < tiles; tile += WARPS) {
        int at = tile * TILE + lane * WIDE;
        float d[WIDE], t[WIDE];
        rows.draft.load(at, d);
        rows.target.load(at, t);
        unsigned cell[WIDE], p[WIDE], q[WIDE];
        unsigned bits = 0;
        bool some_last = false;
#pragma unroll
        for (int j = 0; j < WIDE; j++) {
            float place = cells.place(d[j], t[j]);
            cell[j] = cells.cell_of(place);
            some_last |= place >= last_place;
            d[j] = fmaf(exp2_fast(fmaf(d[j], LOG2_E, rows.shift[0])), scale[0], rest[j]);
            t[j] = fmaf(exp2_fast(fmaf(t[j], LOG2_E, rows.shift[1])), scale[1], rest[j]);
            p[j] = __float_as_uint(__fmul_rd(d[j], LEAST));
            q[j] = __float_as_uint(__fmul_rd(t[j], LEAST));
            if (HEAVY) bits |= p[j] | q[j];
        }
        // Some mass is no longer in the low bits; or some token is in the last cell, with its finer unit.
        // A vote of the warp, because the compiler makes a branch of a lane's own into what every token pays for.
        if (__any_sync(~0u, some_last || bits >= 1u << 24)) {
            float finer = __int_as_float((127 + shared.of_all.exponents[1] - LAST_EXPONENT) << 23);
#pragma unroll
            for (int j = 0; j < WIDE; j++) {
                if ((int)cell[j] >= cells.last) t[j] = fmaf(t[j] - rest[j], finer, rest[j]);
                p[j] = __float2uint_rz(d[j]), q[j] = __float2uint_rz(t[j]);
            }
        }
        // Whether all are in one cell: two of each lane first, which nearly always say that they are not.
        unsigned one = __shfl_sync(~0u, cell[0], 0);
        bool alike = __all_sync(~0u, cell[0] == one && cell[WIDE - 1] == one);
        if (alike) {
            unsigned differ = 0;
#pragma unroll
            for (int j = 1; j < WIDE - 1; j++) differ |= cell[j] ^ cell[0];
            alike = __all_sync(~0u, differ == 0);
        }
        if (alike) {
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

__device__ __forceinline__ void count_chunk(const Shared& shared, const Pair& rows, const Cells& cells, Counts& counts) {
    if (shared.of_all.is_heavy) {
        count_tiles<true>(shared, rows, cells, counts);
    } else {
        count_tiles<false>(shared, rows, cells, counts);
    }
}

__device__ __forceinline__ void clear(Counts& counts) {
    for (int i = threadIdx.x; i < MOST_COUNTS; i += THREADS) counts.p[i] = counts.q[i] = 0;
}

// Adds what a block has counted to what the others have: integers, so that it does not matter which comes first. That costs
// less than for the blocks to wait for each other.
__device__ __forceinline__ void add_counts(const Shared& shared, const Counts& counts, const Cells& cells, CellCounts* out) {
    const int* exponents = shared.of_all.exponents;
    unsigned of_p = 1u << (exponents[0] - 31 - COMMON_EXPONENT), of_q = 1u << (exponents[1] - 31 - COMMON_EXPONENT);
    const unsigned of_last = 1u << (LAST_EXPONENT - 31 - COMMON_LAST_EXPONENT);
    for (int i = threadIdx.x; i <= cells.last; i += THREADS) {
        unsigned p = counts.p[i], q = counts.q[i];
        if (p > 0) atomicAdd(&out[i].p, (unsigned long long)p * of_p);
        if (q > 0) atomicAdd(&out[i].q, (unsigned long long)q * (i == cells.last ? of_last : of_q));
    }
}

static_assert(FINEST_EXPONENT - 31 >= COMMON_EXPONENT && LAST_EXPONENT - 31 >= COMMON_LAST_EXPONENT, "no bit is lost");
