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

    // Its place, as a number whose bits are those of ROUND plus the grid number.
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

// The cells of a row pair whose normalisers are known. The numbers of `Scan::counted`.
__device__ __forceinline__ bool cells_of(const Grid& grid, const Pair& rows, int most, Cells& cells) {
    double per_width = (double)grid.per_width, offset = rows.log_sum[0] - rows.log_sum[1];
    double lowest = floor((grid.log_lowest + offset) * per_width + 0.5);
    double highest = ceil((LOG_HIGHEST + offset) * per_width + 0.5);
    // Far apart the rows differ by more than the grid numbers that f32 can tell: everything is in the outermost cells.
    lowest = fmin(fmax(lowest, -2e6), 2e6), highest = fmin(fmax(highest, -2e6), 2e6);
    cells = Cells(grid, (int)lowest, (int)(highest - lowest) + 1);
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

#define FINEST_EXPONENT -9  // finer than the rounding of the masses themselves would be for nothing
#define LAST_EXPONENT -11   // e^-8 is below 2^-11

// The exponent of 2 below which all mass of a chunk stays, by the sum of its powers.
__device__ __forceinline__ int exponent_of(double sum, float most, float shift, float share) {
    double mass = most > -INF ? sum * power_of_two(shift - shift_of(most)) * (double)share : 0.0;
    // The exponent of a number is in its bits.
    return min(max((__double2hiint(mass) >> 20) - 1022, FINEST_EXPONENT), 1);
}


// Counts a block's chunk.
__device__ __forceinline__ void count_chunk(Shared& shared, const Pair& rows, const Cells& cells, Counts& counts) {
    int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    int exponents[3];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const Told& own = shared.told[i][block_in_cluster()];
        exponents[i] = exponent_of(own.sum, own.most, rows.shift[i], rows.share[i]);
    }
    exponents[2] = LAST_EXPONENT;
    float scale[2] = {rows.share[0] * ldexpf(ONE, -exponents[0]), rows.share[1] * ldexpf(ONE, -exponents[1])};
#pragma unroll
    for (int i = 0; i < 3; i++) {
        if (threadIdx.x == 0) shared.exponents[i] = exponents[i];
    }
    float rest[WIDE], last_place = cells.place_of(cells.last), finer = ldexpf(1.0f, exponents[1] - exponents[2]);
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
            p[j] = __float_as_uint(__fadd_rd(d[j], INTEGER));
            q[j] = __float_as_uint(__fadd_rd(t[j], INTEGER));
            bits |= p[j] | q[j];
        }
#pragma unroll
        for (int j = 0; j < WIDE; j++) p[j] -= __float_as_uint(INTEGER), q[j] -= __float_as_uint(INTEGER);
        // Some mass is 2^-8 or more, and no longer in the low bits; or some token is in the last cell, with its finer unit.
        // A vote of the warp, because the compiler makes a branch of a lane's own into what every token pays for.
        if (__any_sync(~0u, (bits & 0x04800000u) != 0 || some_last)) {
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

__device__ __forceinline__ void clear(Counts& counts) {
    for (int i = threadIdx.x; i < MOST_COUNTS; i += THREADS) counts.p[i] = counts.q[i] = 0;
}

// The masses of the cells over the cluster, each block a slice of them, to device memory. The cluster's blocks must not
// leave before all are done.
__device__ __forceinline__ void write_masses(const Shared& shared, const Counts& counts, int cells, double2* out) {
    int blocks = (int)blocks_of_cluster(), rank = (int)block_in_cluster(), lane = threadIdx.x & 31;
    cluster_sync();
    // Two cells of one row a thread; eight blocks are asked before the first has answered.
    int pairs = (cells + 1) / 2, each = (pairs + blocks - 1) / blocks;
    int row = (int)threadIdx.x & 1, end = min((rank + 1) * each, pairs);
    for (int i = rank * each + (int)threadIdx.x / 2; i < end; i += THREADS / 2) {
        const unsigned* at = (row == 0 ? counts.p : counts.q) + 2 * i;
        double sums[2] = {0.0, 0.0};
        for (int from = 0; from < blocks; from += 8) {
            unsigned a[8], b[8];
            double unit[8];
#pragma unroll
            for (int j = 0; j < 8; j++) {
                a[j] = b[j] = 0u, unit[j] = 0.0;
                if (from + j < blocks) {
                    read_two(remote(at, from + j), a[j], b[j]);
                    unit[j] = unit_of((int)remote_u32((const unsigned*)&shared.exponents[row], from + j));
                }
            }
#pragma unroll
            for (int j = 0; j < 8; j++) sums[0] += (double)a[j] * unit[j], sums[1] += (double)b[j] * unit[j];
        }
        double* to = reinterpret_cast<double*>(out + 2 * i) + row;
        // The target mass of the last cell is written below.
        if (row == 0 || 2 * i + 1 < cells) to[0] = sums[0];
        if (2 * i + 1 + row < cells) to[2] = sums[1];
    }
    // It has a unit of its own. The last warp of the last block has nothing else to do.
    if (rank + 1 == blocks && threadIdx.x / 32 == WARPS - 1) {
        double mass = 0.0;
        if (lane < blocks) {
            double unit = unit_of((int)remote_u32((const unsigned*)&shared.exponents[2], lane));
            mass = (double)remote_u32(&counts.q[cells - 1], lane) * unit;
        }
        mass = warp_sum(mass);
        if (lane == 0) out[cells - 1].y = mass;
    }
}
