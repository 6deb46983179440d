// Drawing a token by the sums of its masses: the masses are added up by tiles, and then one tile is looked into.
#pragma once
#include "pairs.cuh"

// Adds up N masses of the tokens, tile by tile and over each block; `masses(d, t, m)` gives those of a token, none of them
// negative.
template <int N, typename Masses>
__device__ __forceinline__ void add_up(Shared& shared, float* tile_sums, const Pair& rows, Masses masses) {
    int warp = threadIdx.x / 32, lane = threadIdx.x & 31, tiles = tiles_of(rows.target.count);
    for (int tile = warp; tile < tiles; tile += WARPS) {
        int at = tile * TILE + lane * WIDE;
        float d[WIDE], t[WIDE], sums[N];
        rows.draft.load(at, d);
        rows.target.load(at, t);
#pragma unroll
        for (int i = 0; i < N; i++) sums[i] = 0.0f;
#pragma unroll
        for (int j = 0; j < WIDE; j++) {
            float m[N];
            masses(d[j], t[j], m);
#pragma unroll
            for (int i = 0; i < N; i++) sums[i] += m[i];
        }
#pragma unroll
        for (int i = 0; i < N; i++) {
            for (int step = 16; step > 0; step >>= 1) sums[i] += __shfl_xor_sync(~0u, sums[i], step);
            if (lane == 0) tile_sums[i * tiles + tile] = sums[i];
        }
    }
    if (threadIdx.x == 0) shared.found = -1;
    __syncthreads();
    if (warp < N) {
        double own = 0.0;
        for (int i = lane; i < tiles; i += 32) own += (double)tile_sums[warp * tiles + i];
        own = warp_sum(own);
        if (lane == 0) shared.mine.totals[warp] = own;
    }
    cluster_sync();
}

// The sum of mass `which` over all tokens, the same in every thread.
__device__ __forceinline__ double total_of(const Shared& shared, int which) {
    int lane = threadIdx.x & 31;
    return warp_sum(lane < (int)blocks_of_cluster() ? remote_f64(&shared.mine.totals[which], lane) : 0.0);
}

// The first token at which the sum of the masses, in the order of the tokens, exceeds `threshold`, or the last of any mass;
// none if there is no mass. The block that holds the token writes it to shared.found. `mass` is mass `which` again.
template <typename Mass>
__device__ __forceinline__ void locate(Shared& shared, const float* tile_sums, const Pair& rows, int which, double threshold,
                                       Mass mass) {
    int warp = threadIdx.x / 32, lane = threadIdx.x & 31, tiles = tiles_of(rows.target.count);
    tile_sums += which * tiles;
    if (warp == 0) {
        unsigned blocks = blocks_of_cluster(), rank = block_in_cluster();
        double theirs = lane < (int)blocks ? remote_f64(&shared.mine.totals[which], lane) : 0.0;
        double scan = warp_scan(theirs);
        double before = __shfl_sync(~0u, scan - theirs, rank);
        // The first block whose sum exceeds the threshold; the last with any mass if rounding left none.
        unsigned over = __ballot_sync(~0u, theirs > 0.0 && threshold < scan);
        unsigned some = __ballot_sync(~0u, theirs > 0.0);
        int owner = over ? __ffs((int)over) - 1 : some ? 31 - __clz((int)some) : -1;
        if (owner == (int)rank) {
            // Each lane has neighbouring tiles.
            int each = (tiles + 31) / 32, first = lane * each;
            double own = 0.0;
            for (int i = first; i < min(first + each, tiles); i++) own += (double)tile_sums[i];
            double upto = warp_scan(own), left = threshold - before;
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
}

// Writes the token that `locate` found, in the block that has it.
__device__ __forceinline__ void give(const Batch& batch, int pair, const Shared& shared) {
    if (threadIdx.x == 0 && shared.found >= 0) {
        batch.selected[pair] = -1;
        batch.output[pair] = shared.found;
    }
}

// A pair whose residual has no mass that is more than rounding: the last draft that the target allows stands in for it, as
// `allows(i)` says of draft i. Where it allows none, the token is drawn from the target itself.
template <typename Allows>
__device__ __forceinline__ void keep_possible(const Batch& batch, int pair, const Setup& s, const Pair& rows, double coin, int count,
                                              Allows allows) {
    for (int i = count - 1; i >= 0; i--) {
        if (allows(i)) {
            accepted(batch, pair, i);
            return;
        }
    }
    // All have read the sums.
    cluster_sync();
    auto mass = [&](float, float t) { return rows.q(t); };
    add_up<1>(*s.shared, s.tile_sums, rows, [&](float d, float t, float (&m)[1]) { m[0] = mass(d, t); });
    double total = total_of(*s.shared, 0);
    if (total > 0.0) {
        locate(*s.shared, s.tile_sums, rows, 0, coin * total, mass);
        give(batch, pair, *s.shared);
    } else {
        refuse(batch, pair, ROW_NO_RESIDUAL, -1);
    }
}

// What of a mass in f32 is more than its rounding: a residual below that is none.
#define SURE 0.9999995f

// Draws what was rejected: `draft` is the one to keep where the residual is no more than rounding, -1 for none.
template <typename Mass, typename Allows>
__device__ __forceinline__ void resample(const Batch& batch, int pair, const Setup& s, const Pair& rows, double coin, int count,
                                         int draft, Mass mass, Allows allows) {
    add_up<1>(*s.shared, s.tile_sums, rows, [&](float d, float t, float (&m)[1]) { m[0] = mass(d, t); });
    double total = total_of(*s.shared, 0);
    if (draft >= 0 && total <= ACCURACY) {
        accepted(batch, pair, draft);
    } else if (total > 0.0) {
        locate(*s.shared, s.tile_sums, rows, 0, coin * total, mass);
        give(batch, pair, *s.shared);
    } else {
        keep_possible(batch, pair, s, rows, coin, count, allows);
    }
}
