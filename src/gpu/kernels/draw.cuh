// Drawing a token by the sums of its masses.
#pragma once
#include "rows.cuh"

// The first token at which the sum of the masses, in the order of the tokens, exceeds `threshold(total)`, or the last of
// any mass; none if that is negative, or there is no mass. The block that holds the token writes it to shared.found, the
// others -1. `mass` is never negative. Returns the total.
template <typename Mass, typename Threshold>
__device__ __forceinline__ double draw(Shared& shared, float* tile_sums, const Pair& rows, Mass mass,
                                       Threshold threshold_of) {
    int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    int tiles = (rows.target.count + TILE - 1) / TILE;
    for (int tile = warp; tile < tiles; tile += WARPS) {
        int at = tile * TILE + lane * WIDE;
        float d[WIDE], t[WIDE], sum = 0.0f;
        rows.draft.load(at, d);
        rows.target.load(at, t);
#pragma unroll
        for (int j = 0; j < WIDE; j++) sum += mass(d[j], t[j]);
        for (int step = 16; step > 0; step >>= 1) sum += __shfl_xor_sync(~0u, sum, step);
        if (lane == 0) tile_sums[tile] = sum;
    }
    if (threadIdx.x == 0) shared.found = -1;
    __syncthreads();
    // Warp 0: each lane has neighbouring tiles.
    int each = (tiles + 31) / 32, first = lane * each;
    double own = 0.0, upto = 0.0;
    if (warp == 0) {
        for (int i = first; i < min(first + each, tiles); i++) own += (double)tile_sums[i];
        upto = warp_scan(own);
        if (lane == 31) shared.mine.total = upto;
    }
    cluster_sync();
    if (warp == 0) {
        unsigned blocks = blocks_of_cluster(), rank = block_in_cluster();
        double theirs = lane < (int)blocks ? remote_f64(&shared.mine.total, lane) : 0.0;
        double scan = warp_scan(theirs);
        double total = __shfl_sync(~0u, scan, 31);
        double threshold = threshold_of(total);
        double before = __shfl_sync(~0u, scan - theirs, rank);
        // The first block whose sum exceeds the threshold; the last with any mass if rounding left none.
        unsigned over = __ballot_sync(~0u, theirs > 0.0 && threshold < scan);
        unsigned some = __ballot_sync(~0u, theirs > 0.0);
        int owner = over ? __ffs((int)over) - 1 : some ? 31 - __clz((int)some) : -1;
        if (lane == 0) shared.total = total;
        if (owner == (int)rank && threshold >= 0.0) {
            double left = threshold - before;
            unsigned lanes = __ballot_sync(~0u, own > 0.0 && left < upto);
            unsigned any = __ballot_sync(~0u, own > 0.0);
            int holder = lanes ? __ffs((int)lanes) - 1 : 31 - __clz((int)any);
            int tile = -1;
            if (lane == holder) {
                double cumulative = upto - own;
                for (int i = first; i < min(first + each, tiles); i++) {
                    double sum = (double)tile_sums[i];
                    if (sum > 0.0) {
                        tile = i;
                        left = threshold - before - cumulative;
                        cumulative += sum;
                        if (threshold - before < cumulative) break;
                    }
                }
            }
            tile = __shfl_sync(~0u, tile, holder);
            left = __shfl_sync(~0u, left, holder);
            int at = tile * TILE + lane * WIDE;
            float d[WIDE], t[WIDE];
            rows.draft.load(at, d);
            rows.target.load(at, t);
            double sum = 0.0;
#pragma unroll
            for (int j = 0; j < WIDE; j++) sum += (double)mass(d[j], t[j]);
            double scanned = warp_scan(sum);
            unsigned above = __ballot_sync(~0u, sum > 0.0 && left < scanned);
            unsigned filled = __ballot_sync(~0u, sum > 0.0);
            int chosen = above ? __ffs((int)above) - 1 : 31 - __clz((int)filled);
            if (lane == chosen) {
                double cumulative = scanned - sum;
                int found = -1;
                bool done = false;
#pragma unroll
                for (int j = 0; j < WIDE; j++) {
                    double m = (double)mass(d[j], t[j]);
                    if (m > 0.0 && !done) {
                        found = rows.from + at + j;
                        cumulative += m;
                        done = left < cumulative;
                    }
                }
                shared.found = found;
            }
        }
    }
    __syncthreads();
    return shared.total;
}
