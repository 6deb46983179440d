// What the kernels on pairs of rows have in common: how a pair begins and how it ends.
#pragma once
#include "count.cuh"

// What a pair without an answer leaves.
__device__ __forceinline__ void refuse(const Batch& batch, int pair, int flags, int token) {
    if (block_in_cluster() == 0 && threadIdx.x == 0) {
        batch.stats[pair] = RowStats{0.0, 0.0, 0, 0, flags, token};
        batch.selected[pair] = -1;
        batch.output[pair] = -1;
    }
}

// The shared memory of a block: what blocks tell each other, two sums of each tile, the counts, the chunks.
struct Setup {
    Shared* shared;
    float* tile_sums;
    Counts* counts;
    Logit* room;
};

__device__ __forceinline__ Setup setup(int chunk, bool counts) {
    extern __shared__ __align__(128) unsigned char memory[];
    Setup s;
    s.shared = reinterpret_cast<Shared*>(memory);
    unsigned char* next = memory + EXCHANGE_BYTES;
    s.tile_sums = reinterpret_cast<float*>(next);
    next += (tiles_of(chunk) * 8 + 127) / 128 * 128;
    s.counts = reinterpret_cast<Counts*>(next);
    if (counts) next += sizeof(Counts);
    s.room = reinterpret_cast<Logit*>(next);
    return s;
}

__device__ __forceinline__ int drafts_of(const Batch& batch, int pair) {
    return batch.counts ? batch.counts[pair] : batch.k;
}

// Opens a pair and checks it; `clear` is called meanwhile, if the pair exists. Returns false, in all blocks alike, if it was
// refused.
template <typename Clear>
__device__ __forceinline__ bool begin(const Batch& batch, int pair, const Setup& s, Pair& rows, int drafts, Clear clear) {
    long long draft_row = batch.draft_rows ? batch.draft_rows[pair] : pair;
    long long target_row = batch.target_rows ? batch.target_rows[pair] : pair;
    int flags = 0, token = -1;
    if (draft_row >= batch.draft_count || target_row < 0 || target_row >= batch.target_count) {
        flags = ROW_NO_SUCH_ROW;
    } else if (drafts < 0 || drafts > batch.k) {
        flags = ROW_TOO_MANY_DRAFTS, token = drafts;
    } else if (drafts > 0 && draft_row < 0) {
        flags = ROW_NOT_DRAWN, token = 0;
    } else {
        open_pair(batch, pair, drafts, 0, *s.shared, s.room, rows, clear);
        cluster_arrive();
        flags = normalise(*s.shared, rows, token);
        // The drafts must be tokens that their own law can draw.
        for (int base = 0; base < drafts && flags == 0; base += 32) {
            int i = base + (int)(threadIdx.x & 31);
            float x = i < drafts ? s.shared->logits[0][i] : 0.0f;
            bool missing = !(x == x), impossible = i < drafts && !missing && (double)x - rows.log_sum[0] < -740.0;
            unsigned bad = __ballot_sync(~0u, missing || impossible);
            if (bad) {
                int first = __ffs((int)bad) - 1;
                token = base + first;
                flags = __shfl_sync(~0u, missing ? 1 : 0, first) ? ROW_OUT_OF_VOCABULARY : ROW_NOT_DRAWN;
            }
        }
    }
    if (flags != 0) refuse(batch, pair, flags, token);
    return flags == 0;
}

__device__ __forceinline__ void leave_stats(const Batch& batch, int pair, const Pair& rows, int first, int cells) {
    if (block_in_cluster() == 0 && threadIdx.x == 0) {
        batch.stats[pair] = RowStats{rows.log_sum[0], rows.log_sum[1], first, cells, 0, -1};
    }
}

__device__ __forceinline__ void accepted(const Batch& batch, int pair, int draft) {
    if (block_in_cluster() == 0 && threadIdx.x == 0) {
        batch.selected[pair] = draft;
        batch.output[pair] = batch.tokens[(long long)pair * batch.k + draft];
    }
}

// The masses of a draft, in f64.
__device__ __forceinline__ double draft_mass(const Shared& shared, const Pair& rows, int i) {
    return exp((double)shared.logits[0][i] - rows.log_sum[0]);
}
__device__ __forceinline__ double target_mass(const Shared& shared, const Pair& rows, int i) {
    return exp((double)shared.logits[1][i] - rows.log_sum[1]);
}
