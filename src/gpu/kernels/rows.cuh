// A pair of rows spread over a cluster of blocks: each holds its chunk of both rows in shared memory, so that the rows
// are read from device memory once however often the cluster passes over them.
#pragma once
#include "batch.cuh"
#include "cluster.cuh"
#include "coins.cuh"

// ---- one row ---------------------------------------------------------------------------------------------------

// A block's part of one row.
struct Part {
    const Logit* logits;  // the chunk, in shared memory if RESIDENT, and then padded to whole tiles
    float scale, least;
    int count;            // tokens of the chunk
    int tie;              // of those at `least` itself the ones before it are masked too
    bool aligned;         // whether the chunk can be read 16 bytes at a time

    // The logit of the chunk's token `i`.
    __device__ __forceinline__ float shaped(float x, int i) const {
#if SHAPED
        x *= scale;
        return x < least || (x == least && i < tie) ? -INF : x;
#else
        return x;
#endif
    }

    // The logits from `at`, a multiple of WIDE inside the last tile, on; masked beyond the end.
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
#if SHAPED
#pragma unroll
        for (int j = 0; j < WIDE; j++) x[j] = shaped(x[j], at + j);
#endif
    }

    // One logit.
    __device__ __forceinline__ float at(int i) const { return i < count ? shaped(widen(logits[i]), i) : -INF; }
};

// What a block tells the others of a row: its largest logit, and the sum of 2^(logit*LOG2_E + shift_of(most)).
struct Told {
    float most;
    unsigned unused;
    double sum;
};

// What the blocks of a cluster read of each other.
struct Mine {
    double totals[2];
    int bad;         // the first token with a bad logit
};

// A block's view of a pair of rows.
struct Pair {
    Part draft, target;
    int from;           // the first token of the chunk
    float shift[2];     // e^logit = 2^(logit*LOG2_E + shift)/share, but for the rounding of both, which cancels
    float share[2];     // what makes masses of these powers
    double log_sum[2];  // ln sum e^logit
    bool has_draft;

    // The masses of a token, in f32.
    __device__ __forceinline__ float p(float x) const { return exp2_fast(fmaf(x, LOG2_E, shift[0])) * share[0]; }
    __device__ __forceinline__ float q(float x) const { return exp2_fast(fmaf(x, LOG2_E, shift[1])) * share[1]; }
};

// The shared memory of a block ahead of the chunks.
struct Shared {
    unsigned long long arrived, heard;  // barriers: the rows; what the others tell
    Told told[2][MOST_BLOCKS];
    Mine mine;
    float warp_max[2][WARPS], warp_sum[2][WARPS];
    int exponents[3];  // of what a count of 1 stands for: of p, of q, of q in the last cell
    int found, first_bad;
    // The drafts: tokens, logits of both rows, coins. One more coin for the residual.
    int tokens[MOST_DRAFTS];
    float logits[2][MOST_DRAFTS];
    double coins[MOST_DRAFTS + 2];
};

#define EXCHANGE_BYTES 3072
static_assert(sizeof(Shared) <= EXCHANGE_BYTES, "the host counts on it");

// The tiles of so many tokens.
__device__ __forceinline__ int tiles_of(int count) { return (count + TILE - 1) / TILE; }

// The row of a pair; `some` says whether it has one.
__device__ __forceinline__ const Logit* row_of(const void* base, long long stride, const int* rows, int pair, bool& some) {
    long long row = rows ? rows[pair] : pair;
    some = row >= 0;
    return static_cast<const Logit*>(base) + (some ? row : 0) * stride;
}

// Copies a chunk to shared memory by plain loads, from `done` tokens on, and masks what pads it to whole tiles.
__device__ __forceinline__ void copy_rest(Logit* to, const Logit* from, int done, int count, int padded) {
    for (int i = done + threadIdx.x; i < padded; i += THREADS) to[i] = i < count ? from[i] : masked();
}

// The largest logit of a block's chunk, before scaling; NaN if there is one.
__device__ __forceinline__ float largest(const Part& part) {
    float most = -INF;
#if RESIDENT && DTYPE != 0
    // Two at a time.
    unsigned pair = DTYPE == 1 ? 0xfc00fc00u : 0xff80ff80u;
    for (int at = threadIdx.x * WIDE; at < part.count; at += THREADS * WIDE) {
        uint4 v = *reinterpret_cast<const uint4*>(part.logits + at);
        unsigned words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int j = 0; j < 4; j++) {
#if DTYPE == 1
            asm("max.NaN.f16x2 %0, %0, %1;" : "+r"(pair) : "r"(words[j]));
#else
            asm("max.NaN.bf16x2 %0, %0, %1;" : "+r"(pair) : "r"(words[j]));
#endif
        }
    }
    float a, b;
    widen_word(pair, a, b);
    most = max_or_nan(a, b);
#else
    Part raw = part;
    raw.scale = 1.0f, raw.least = -INF, raw.tie = 0;
    for (int at = threadIdx.x * WIDE; at < part.count; at += THREADS * WIDE) {
        float x[WIDE];
        raw.load(at, x);
#pragma unroll
        for (int j = 0; j < WIDE; j++) most = max_or_nan(most, x[j]);
    }
#endif
    for (int step = 16; step > 0; step >>= 1) most = max_or_nan(most, __shfl_xor_sync(~0u, most, step));
    return most;
}

// The power of 2, a whole one, that makes the largest logit's about 1.
__device__ __forceinline__ float shift_of(float most) { return most == -INF ? 0.0f : -rintf(most * LOG2_E); }

// The sum of 2^(logit*LOG2_E + shift) over a warp's part of a chunk.
__device__ __forceinline__ float sum_of(const Part& part, float shift) {
    float sum = 0.0f;
    for (int at = threadIdx.x * WIDE; at < part.count; at += THREADS * WIDE) {
        float x[WIDE];
        part.load(at, x);
#pragma unroll
        for (int j = 0; j < WIDE; j++) x[j] = exp2_fast(fmaf(x[j], LOG2_E, shift));
#pragma unroll
        for (int step = WIDE / 2; step > 0; step >>= 1) {
#pragma unroll
            for (int j = 0; j < step; j++) x[j] += x[j + step];
        }
        sum += x[0];
    }
    for (int step = 16; step > 0; step >>= 1) sum += __shfl_xor_sync(~0u, sum, step);
    return sum;
}

// Waits until all has arrived that a barrier was told to expect, for the time that `round` counts from 0.
__device__ __forceinline__ void wait_for(unsigned long long& barrier, int round) {
#if __CUDA_ARCH__ >= 900
    unsigned done = 0, address = shared_address(&barrier);
    while (!done) {
        asm volatile(
            "{\n\t.reg .pred p;\n\tmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\tselp.u32 %0, 1, 0, p;\n\t}"
            : "=r"(done)
            : "r"(address), "r"((unsigned)round & 1u)
            : "memory");
    }
#endif
}

// The normalisers of both rows, over the whole cluster. Returns flags, the same in all blocks, and the token they are
// about.
__device__ __forceinline__ int normalise(Shared& shared, Pair& rows, int& token) {
    int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    float most[2] = {largest(rows.draft), largest(rows.target)};
    if (lane == 0) shared.warp_max[0][warp] = most[0], shared.warp_max[1][warp] = most[1];
    __syncthreads();
    for (int other = 0; other < WARPS; other++) {
        most[0] = max_or_nan(most[0], shared.warp_max[0][other]), most[1] = max_or_nan(most[1], shared.warp_max[1][other]);
    }
    // Of a tie that is split the part that stays: in the cluster as a whole there is one.
    most[0] = rows.draft.shaped(most[0], 0x7fffffff), most[1] = rows.target.shaped(most[1], 0x7fffffff);
    float sums[2] = {sum_of(rows.draft, shift_of(most[0])), sum_of(rows.target, shift_of(most[1]))};
    if (lane == 0) shared.warp_sum[0][warp] = sums[0], shared.warp_sum[1][warp] = sums[1];
    __syncthreads();
    // All blocks have begun, and are ready to hear.
    cluster_wait();
    int blocks = (int)blocks_of_cluster(), rank = (int)block_in_cluster();
    if (warp < 2 && lane < blocks) {
        double sum = 0.0;
        for (int other = 0; other < WARPS; other++) sum += (double)shared.warp_sum[warp][other];
        float own = warp == 0 ? most[0] : most[1];
#if __CUDA_ARCH__ >= 900
        // A cluster of one block is none, for whose memory there is no such store.
        if (blocks > 1) {
            asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.b64 [%0], {%1, %2}, [%3];" ::"r"(
                             remote(&shared.told[warp][rank], lane)),
                         "l"((unsigned long long)__float_as_uint(own)), "l"(__double_as_longlong(sum)),
                         "r"(remote(&shared.heard, lane))
                         : "memory");
        } else {
            shared.told[warp][0] = Told{own, 0u, sum};
        }
#else
        shared.told[warp][rank] = Told{own, 0u, sum};
#endif
    }
    if (threadIdx.x == 0) shared.first_bad = 0x7fffffff;
    if (blocks > 1) {
        wait_for(shared.heard, 0);
    } else {
        __syncthreads();
    }
    // Every warp adds up what the blocks told: of the draft row in its lower half, of the target row in the upper.
    int row = lane / MOST_BLOCKS, block = lane % MOST_BLOCKS;
    Told told = block < blocks ? shared.told[row][block] : Told{-INF, 0u, 0.0};
    float all = told.most;
    for (int step = MOST_BLOCKS / 2; step > 0; step >>= 1) all = max_or_nan(all, __shfl_xor_sync(~0u, all, step));
    double sum = told.most > -INF ? told.sum * power_of_two(shift_of(all) - shift_of(told.most)) : 0.0;
    for (int step = MOST_BLOCKS / 2; step > 0; step >>= 1) sum += __shfl_xor_sync(~0u, sum, step);
    // The largest logit times LOG2_E is not `shift` exactly, and LOG2_E is not log2(e): made up for here.
    double rest = (double)all * (double)LOG2_E + (double)shift_of(all);
    double log_sum = (double)all + log(sum) - rest * 0.6931471805599453;
    float share = (float)(1.0 / sum);
    // Nothing is left where a tie is masked whole.
    if (!(sum > 0.0) && all <= LARGEST) all = -INF;
    int flags = 0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float largest_of_all = __shfl_sync(~0u, all, i * MOST_BLOCKS);
        rows.shift[i] = shift_of(largest_of_all);
        rows.share[i] = __shfl_sync(~0u, share, i * MOST_BLOCKS);
        rows.log_sum[i] = __shfl_sync(~0u, log_sum, i * MOST_BLOCKS);
        if (i == 0 && !rows.has_draft) {
            rows.shift[0] = 0.0f, rows.log_sum[0] = 0.0, rows.share[0] = 0.0f;
        } else if (!(largest_of_all <= LARGEST)) {
            flags |= i == 0 ? ROW_DRAFT_NOT_A_NUMBER : ROW_TARGET_NOT_A_NUMBER;
        } else if (!(largest_of_all >= -LARGEST)) {
            flags |= i == 0 ? ROW_DRAFT_ALL_MASKED : ROW_TARGET_ALL_MASKED;
        }
    }
    token = -1;
    if (flags & (ROW_DRAFT_NOT_A_NUMBER | ROW_TARGET_NOT_A_NUMBER)) {
        // The draft row is named first.
        Part part = rows.target;
        if (flags & ROW_DRAFT_NOT_A_NUMBER) part = rows.draft;
        for (int i = threadIdx.x; i < part.count; i += THREADS) {
            if (!(part.shaped(widen(part.logits[i]), i) <= LARGEST)) atomicMin(&shared.first_bad, rows.from + i);
        }
        __syncthreads();
        if (threadIdx.x == 0) shared.mine.bad = shared.first_bad;
        cluster_sync();
        token = 0x7fffffff;
        for (unsigned i = 0; i < blocks_of_cluster(); i++) {
            token = min(token, (int)remote_u32((const unsigned*)&shared.mine.bad, i));
        }
    }
    return flags;
}

// The normalisers that an earlier kernel found.
__device__ __forceinline__ void normalised(const RowStats& stats, Pair& rows) {
    const double log2_e = 1.4426950408889634;
    double log_sum[2] = {stats.draft_log_sum, stats.target_log_sum};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        rows.log_sum[i] = log_sum[i];
        rows.shift[i] = -(float)(log_sum[i] * log2_e);
        // What the rounding of the shift and of LOG2_E leaves.
        double rest = log_sum[i] * (double)LOG2_E + (double)rows.shift[i];
        rows.share[i] = (float)exp2(-rest);
    }
}

// ---- the drafts ------------------------------------------------------------------------------------------------

__device__ __forceinline__ double coin_of(const Batch& batch, int pair, int place, int count) {
    if (batch.coins) return batch.coins[(long long)pair * (batch.k + 2) + place];
    unsigned depth = batch.depths ? (unsigned)batch.depths[pair] : 0u;
    unsigned purpose = place < count ? COIN_LABEL : place == count ? COIN_ACCEPT : COIN_RESIDUAL;
    unsigned draft = place < count ? (unsigned)place : 0u;
    return philox_coin(batch.seeds[pair], batch.starts[pair], purpose, depth, draft);
}

// Notes the drafts of a pair with their logits and coins, while the rows are still on their way. A draft that is no
// token keeps its number and has the logit NaN. Every block of the cluster notes them for itself.
__device__ __forceinline__ void note_drafts(const Batch& batch, int pair, int count, Shared& shared, const Pair& rows) {
    bool some;
    const Logit* draft = row_of(batch.draft, batch.draft_stride, batch.draft_rows, pair, some);
    const Logit* target = row_of(batch.target, batch.target_stride, batch.target_rows, pair, some);
    for (int i = threadIdx.x; i < count; i += THREADS) {
        int token = batch.tokens[(long long)pair * batch.k + i];
        bool exists = token >= 0 && token < batch.vocab;
        shared.tokens[i] = token;
        // The token's place from the chunk on: before it, in it, or after it.
        int place = token - rows.from;
        shared.logits[0][i] = exists ? rows.draft.shaped(widen(draft[token]), place) : __int_as_float(0x7fffffff);
        shared.logits[1][i] = exists ? rows.target.shaped(widen(target[token]), place) : 0.0f;
    }
    for (int i = (int)threadIdx.x - 64; i < count + 2; i += THREADS) {
        if (i >= 0) shared.coins[i] = coin_of(batch, pair, i, count);
    }
}

#define ACCURACY 1e-6  // `LogitPair::accuracy`

// `accept_probability` of selector.rs.
__device__ __forceinline__ double accept_probability(double q, double m) {
    return !(q > 0.0) ? 0.0 : q >= m * (1.0 - ACCURACY) ? 1.0 : q / m;
}

// ---- opening ---------------------------------------------------------------------------------------------------

#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ void expect(unsigned barrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Makes a block's barriers ready; the second expects what every block of the cluster tells of two rows.
__device__ __forceinline__ void begin_barriers(Shared& shared) {
    unsigned barriers[2] = {shared_address(&shared.arrived), shared_address(&shared.heard)};
#pragma unroll
    for (int i = 0; i < 2; i++) asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barriers[i]) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    expect(barriers[1], blocks_of_cluster() * 2u * (unsigned)sizeof(Told));
}
#endif

// Brings a block's chunks of a pair's rows into shared memory, and notes the drafts meanwhile. `clear` is called while the
// rows are on their way. `round` counts the pairs that the block has opened before.
template <typename Clear>
__device__ __forceinline__ void open_pair(const Batch& batch, int pair, int drafts, int round, Shared& shared, Logit* room,
                                          Pair& rows, Clear clear) {
    rows.from = (int)block_in_cluster() * batch.chunk;
    int count = max(0, min(batch.chunk, batch.vocab - rows.from));
    bool has_target;
    const Logit* draft = row_of(batch.draft, batch.draft_stride, batch.draft_rows, pair, rows.has_draft) + rows.from;
    const Logit* target = row_of(batch.target, batch.target_stride, batch.target_rows, pair, has_target) + rows.from;
    float scale[2] = {1.0f, 1.0f}, least[2] = {-INF, -INF};
    int tie[2] = {0, 0};
#if SHAPED
    if (batch.draft_scale) scale[0] = batch.draft_scale[pair];
    if (batch.target_scale) scale[1] = batch.target_scale[pair];
    if (batch.draft_least) least[0] = batch.draft_least[pair];
    if (batch.target_least) least[1] = batch.target_least[pair];
    if (batch.draft_tie) tie[0] = max(batch.draft_tie[pair], 0) - rows.from;
    if (batch.target_tie) tie[1] = max(batch.target_tie[pair], 0) - rows.from;
#endif
    bool aligned = (((unsigned long long)draft | (unsigned long long)target) & 15) == 0;
    int draft_count = rows.has_draft ? count : 0;
#if RESIDENT
    // Whole tiles of both rows, so that no pass over them looks for the end.
    int padded = tiles_of(count) * TILE, room_of_row = tiles_of(batch.chunk) * TILE;
    Logit *own_draft = room, *own_target = room + room_of_row;
    rows.draft = Part{own_draft, scale[0], least[0], draft_count, tie[0], aligned};
    rows.target = Part{own_target, scale[1], least[1], count, tie[1], aligned};
    int whole = aligned ? count / WIDE * WIDE : 0;
    int draft_whole = rows.has_draft ? whole : 0;
#if __CUDA_ARCH__ >= 900
    // The bulk copy engine brings whole 16 bytes; one thread asks for them.
    if (threadIdx.x == 0) {
        unsigned sizes[2] = {(unsigned)(draft_whole * (int)sizeof(Logit)), (unsigned)(whole * (int)sizeof(Logit))};
        const Logit* sources[2] = {draft, target};
        Logit* places[2] = {own_draft, own_target};
        if (round == 0) begin_barriers(shared);
        // What was read and written here before comes first.
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        unsigned arrived = shared_address(&shared.arrived);
        expect(arrived, sizes[0] + sizes[1]);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            if (sizes[i] > 0) {
                asm volatile(
                    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                        shared_address(places[i])),
                    "l"(sources[i]), "r"(sizes[i]), "r"(arrived)
                    : "memory");
            }
        }
    }
#else
    for (int i = threadIdx.x * WIDE; i < draft_whole; i += THREADS * WIDE) {
        *reinterpret_cast<uint4*>(own_draft + i) = __ldg(reinterpret_cast<const uint4*>(draft + i));
    }
    for (int i = threadIdx.x * WIDE; i < whole; i += THREADS * WIDE) {
        *reinterpret_cast<uint4*>(own_target + i) = __ldg(reinterpret_cast<const uint4*>(target + i));
    }
#endif
    clear();
    note_drafts(batch, pair, drafts, shared, rows);
    copy_rest(own_draft, draft, draft_whole, draft_count, padded);
    copy_rest(own_target, target, whole, count, padded);
    __syncthreads();
    wait_for(shared.arrived, round);
#else
    rows.draft = Part{draft, scale[0], least[0], draft_count, tie[0], aligned};
    rows.target = Part{target, scale[1], least[1], count, tie[1], aligned};
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x == 0 && round == 0) begin_barriers(shared);
#endif
    clear();
    note_drafts(batch, pair, drafts, shared, rows);
    __syncthreads();
#endif
}
