// What the kernels on pairs of rows have in common: how a pair begins and how it ends.
#pragma once
#include "count.cuh"

// What a pair without an answer leaves, written by one thread.
__device__ __forceinline__ void leave_refusal(const Batch& batch, int pair, int flags, int token) {
    batch.stats[pair] = RowStats{0.0, 0.0, 0, 0, flags, token};
    batch.selected[pair] = -1;
    batch.output[pair] = -1;
}
__device__ __forceinline__ void refuse(const Batch& batch, int pair, int flags, int token) {
    if (block_in_cluster() == 0 && threadIdx.x == 0) leave_refusal(batch, pair, flags, token);
}

// The shared memory of a block: what blocks tell each other, two sums of each tile, the counts, the chunks.
struct Setup {
    Shared* shared;
    float* tile_sums;
    Counts* counts;
    Logit* room;
};

// `counts`: the bytes of them.
__device__ __forceinline__ Setup setup(int chunk, unsigned counts) {
    extern __shared__ __align__(128) unsigned char memory[];
    Setup s;
    s.shared = reinterpret_cast<Shared*>(memory);
    unsigned char* next = memory + EXCHANGE_BYTES;
    s.tile_sums = reinterpret_cast<float*>(next);
    next += (tiles_of(chunk) * 8 + 127) / 128 * 128;
    s.counts = reinterpret_cast<Counts*>(next);
    next += counts;
    s.room = reinterpret_cast<Logit*>(next);
    return s;
}

__device__ __forceinline__ int drafts_of(const Batch& batch, int pair) {
    return batch.counts ? batch.counts[pair] : batch.k;
}

// What is wrong with a pair before any row is read, and the token or the number that it is about.
struct Fault {
    int flags, token;
};

__device__ __forceinline__ Fault fault_of(const Batch& batch, int pair, int drafts) {
    long long draft_row = batch.draft_rows ? batch.draft_rows[pair] : pair;
    long long target_row = batch.target_rows ? batch.target_rows[pair] : pair;
    if (draft_row >= batch.draft_count || target_row < 0 || target_row >= batch.target_count) {
        return Fault{ROW_NO_SUCH_ROW, -1};
    }
    if (drafts < 0 || drafts > batch.k) return Fault{ROW_TOO_MANY_DRAFTS, drafts};
    if (drafts > 0 && draft_row < 0) return Fault{ROW_NOT_DRAWN, 0};
    return Fault{0, -1};
}

// The drafts noted must be tokens that their own law can draw. The same in every warp.
__device__ __forceinline__ Fault fault_of_drafts(const Shared& shared, const Pair& rows, int drafts) {
    Fault fault{0, -1};
    for (int base = 0; base < drafts && fault.flags == 0; base += 32) {
        int i = base + (int)(threadIdx.x & 31);
        float x = i < drafts ? shared.logits[0][i] : 0.0f;
        bool missing = !(x == x), impossible = i < drafts && !missing && (double)x - rows.log_sum[0] < -740.0;
        unsigned bad = __ballot_sync(~0u, missing || impossible);
        if (bad) {
            int first = __ffs((int)bad) - 1;
            bool is_missing = __shfl_sync(~0u, missing ? 1 : 0, first) != 0;
            fault = Fault{is_missing ? ROW_OUT_OF_VOCABULARY : ROW_NOT_DRAWN, base + first};
        }
    }
    return fault;
}

// Opens a pair and checks it. Returns false, in all blocks alike, if it was refused.
__device__ __forceinline__ bool begin(const Batch& batch, int pair, const Setup& s, Pair& rows, int drafts) {
    Fault fault = fault_of(batch, pair, drafts);
    if (fault.flags == 0) {
        open_pair(batch, pair, 0, *s.shared, s.room, rows, [&] { note_drafts(batch, pair, drafts, *s.shared, rows); });
        cluster_arrive();
        fault.flags = normalise(*s.shared, rows, fault.token, [](const double (&)[2]) {});
        if (fault.flags == 0) fault = fault_of_drafts(*s.shared, rows, drafts);
    }
    if (fault.flags != 0) refuse(batch, pair, fault.flags, fault.token);
    return fault.flags == 0;
}

__device__ __forceinline__ RowStats stats_of(const Pair& rows, int first, int cells) {
    return RowStats{rows.log_sum[0], rows.log_sum[1], first, cells, 0, -1};
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
