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
struct __align__(16) Told {
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

// What a block knows of a pair once all blocks have told of their chunks.
struct Found {
    double log_sum[2];
    float shift[2], share[2];  // of `Pair`
    int flags;
    // Of counting the block's chunk:
    float scale[2];            // from powers to counts, of p and q
    int exponents[2];          // of what a count of 1 stands for
    int first, last;           // of `Cells`
    bool is_heavy;             // whether a token's mass may be 2^24 counts or more
};

// What the warps tell of their part of a chunk: its largest logit, NaN if there is one, and the sum of
// 2^(logit*LOG2_E + shift_of(base)).
struct PartSum {
    float most, sum, base;
};

// The shared memory of a block ahead of the chunks.
struct Shared {
    unsigned long long arrived, heard;  // barriers: the rows; what the others tell
    Told told[2][MOST_BLOCKS];
    Mine mine;
    Found of_all;
    Grid grid;
    PartSum parts[2][WARPS];
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

// The power of 2, a whole one, that makes the largest logit's about 1.
__device__ __forceinline__ float shift_of(float most) { return most == -INF ? 0.0f : -rintf(most * LOG2_E); }

__device__ __forceinline__ float half_warp_max_or_nan(float x) {
    for (int step = 8; step > 0; step >>= 1) x = max_or_nan(x, __shfl_xor_sync(~0u, x, step));
    return x;
}
__device__ __forceinline__ double half_warp_sum(double x) {
    for (int step = 8; step > 0; step >>= 1) x += __shfl_xor_sync(~0u, x, step);
    return x;
}
__device__ __forceinline__ float warp_max_or_nan(float x) {
    return half_warp_max_or_nan(max_or_nan(x, __shfl_xor_sync(~0u, x, 16)));
}

#define FINEST_EXPONENT -9  // finer than the rounding of the masses themselves would be for nothing

// The exponent of 2 below which all mass of a chunk stays, by the sum of its powers.
__device__ __forceinline__ int exponent_of(double sum, float most, float shift, float share) {
    double mass = most > -INF ? sum * power_of_two(shift - shift_of(most)) * (double)share : 0.0;
    // The exponent of a number is in its bits.
    return min(max((__double2hiint(mass) >> 20) - 1022, FINEST_EXPONENT), 1);
}

// The sum of the powers 2^(logit*LOG2_E + shift) of a vector, and the larger of `most` and its logits, NaN if one is.
__device__ __forceinline__ float sum_vector(const float (&logits)[WIDE], float shift, float& most) {
    float x[WIDE], y[WIDE];
#pragma unroll
    for (int j = 0; j < WIDE; j++) y[j] = logits[j], x[j] = exp2_fast(fmaf(logits[j], LOG2_E, shift));
#pragma unroll
    for (int step = WIDE / 2; step > 0; step >>= 1) {
#pragma unroll
        for (int j = 0; j < step; j++) x[j] += x[j + step], y[j] = max_or_nan(y[j], y[j + step]);
    }
    most = max_or_nan(most, y[0]);
    return x[0];
}

// One pass: the powers are scaled by the largest of the warp's first logits, which is near enough to the largest of all in
// most rows. They are looked at once more where a sum overflows, or is NaN, or where all the first are masked, so that the powers of
// the others may all have come out as 0. The same in all lanes.
__device__ __forceinline__ PartSum sum_part(const Part& part) {
    int at = threadIdx.x * WIDE;
    float x[WIDE];
    PartSum it{-INF, 0.0f, -INF};
    if (at < part.count) {
        part.load(at, x);
#pragma unroll
        for (int j = 0; j < WIDE; j++) it.base = fmaxf(it.base, x[j]);
    }
    for (int step = 16; step > 0; step >>= 1) it.base = fmaxf(it.base, __shfl_xor_sync(~0u, it.base, step));
    float shift = shift_of(it.base);
#pragma unroll 2
    for (; at < part.count; at += THREADS * WIDE) {
        part.load(at, x);
        it.sum += sum_vector(x, shift, it.most);
    }
    for (int step = 16; step > 0; step >>= 1) it.sum += __shfl_xor_sync(~0u, it.sum, step);
    it.most = warp_max_or_nan(it.most);
    if (!(it.sum < INF) || (it.base == -INF && it.most > -INF)) {
        it.base = it.most, it.sum = 0.0f;
        for (at = threadIdx.x * WIDE; at < part.count; at += THREADS * WIDE) {
            part.load(at, x);
            it.sum += sum_vector(x, shift_of(it.base), it.most);
        }
        for (int step = 16; step > 0; step >>= 1) it.sum += __shfl_xor_sync(~0u, it.sum, step);
    }
    return it;
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

// The normalisers of both rows, over the whole cluster. Returns flags, the same in all blocks, and the token they are about.
// `also` is called in the warp that finds the logarithms of the sums, with both; its other lanes have the same.
template <typename Also>
__device__ __forceinline__ int normalise(Shared& shared, Pair& rows, int& token, Also also) {
    int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    if (threadIdx.x == 0) shared.first_bad = 0x7fffffff;
    PartSum sums[2] = {sum_part(rows.draft), sum_part(rows.target)};
    if (lane == 0) shared.parts[0][warp] = sums[0], shared.parts[1][warp] = sums[1];
    __syncthreads();
    // All blocks have begun, and are ready to hear.
    cluster_wait();
    // Two warps do what is left for their block: the others would only take their turns.
    if (warp < 2) {
        int blocks = (int)blocks_of_cluster(), rank = (int)block_in_cluster();
        // Of the draft row in its lower half, of the target row in the upper.
        int row = lane / MOST_BLOCKS, block = lane % MOST_BLOCKS;
        static_assert(WARPS <= MOST_BLOCKS, "a lane a warp");
        PartSum part = block < WARPS ? shared.parts[row][block] : PartSum{-INF, 0.0f, -INF};
        float own = half_warp_max_or_nan(part.most);
        double own_sum = part.sum > 0.0f ? (double)part.sum * power_of_two(shift_of(own) - shift_of(part.base)) : 0.0;
        own_sum = half_warp_sum(own_sum);
        if (warp == 0 && block < blocks) {
#if __CUDA_ARCH__ >= 900
            // A cluster of one block is none, for whose memory there is no such store.
            if (blocks > 1) {
                asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.b64 [%0], {%1, %2}, [%3];" ::"r"(
                                 remote(&shared.told[row][rank], block)),
                             "l"((unsigned long long)__float_as_uint(own)), "l"(__double_as_longlong(own_sum)),
                             "r"(remote(&shared.heard, block))
                             : "memory");
            }
#endif
        }
        if (blocks > 1) wait_for(shared.heard, 0);
        Told told{-INF, 0u, 0.0};
        if (block < blocks) told = blocks > 1 ? shared.told[row][block] : Told{own, 0u, own_sum};
        float all = half_warp_max_or_nan(told.most);
        double sum = told.most > -INF ? told.sum * power_of_two(shift_of(all) - shift_of(told.most)) : 0.0;
        sum = half_warp_sum(sum);
        // Nothing is left where a tie is masked whole.
        float largest = !(sum > 0.0) && all <= LARGEST ? -INF : all;
        bool has_none[2] = {!rows.has_draft, false};
        if (warp == 0) {
            float share = (float)(1.0 / sum), scale, top;
            int exponent = exponent_of(own_sum, own, shift_of(largest), share);
            scale = share * __int_as_float((127 + 31 - exponent) << 23);
            top = exp2_fast(fmaf(own, LOG2_E, shift_of(largest))) * scale;
            int flags = 0;
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float of_row = __shfl_sync(~0u, largest, i * MOST_BLOCKS);
                if (has_none[i]) continue;
                if (!(of_row <= LARGEST)) {
                    flags |= i == 0 ? ROW_DRAFT_NOT_A_NUMBER : ROW_TARGET_NOT_A_NUMBER;
                } else if (!(of_row >= -LARGEST)) {
                    flags |= i == 0 ? ROW_DRAFT_ALL_MASKED : ROW_TARGET_ALL_MASKED;
                }
            }
            unsigned heavy = __ballot_sync(~0u, !(top < 16777208.0f));
            if (block == 0) {
                bool none = row == 0 && has_none[0];
                shared.of_all.shift[row] = none ? 0.0f : shift_of(largest);
                shared.of_all.share[row] = none ? 0.0f : share;
                shared.of_all.scale[row] = none ? 0.0f : scale;
                shared.of_all.exponents[row] = exponent;
            }
            if (lane == 0) shared.of_all.flags = flags, shared.of_all.is_heavy = heavy != 0;
        } else {
            // The largest logit times LOG2_E is not `shift` exactly, and LOG2_E is not log2(e): made up for here.
            double rest = (double)all * (double)LOG2_E + (double)shift_of(all);
            double log_sum = (double)all + log(sum) - rest * 0.6931471805599453;
            if (row == 0 && has_none[0]) log_sum = 0.0;
            double of_both[2] = {__shfl_sync(~0u, log_sum, 0), __shfl_sync(~0u, log_sum, MOST_BLOCKS)};
            also(of_both);
            if (block == 0) shared.of_all.log_sum[row] = log_sum;
        }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 2; i++) {
        rows.shift[i] = shared.of_all.shift[i], rows.share[i] = shared.of_all.share[i];
        rows.log_sum[i] = shared.of_all.log_sum[i];
    }
    int flags = shared.of_all.flags;
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

// Brings a block's chunks of a pair's rows into shared memory; `meanwhile` is called while they are on their way, and what it
// writes there all threads see afterwards. `round` counts the pairs that the block has opened before.
template <typename Meanwhile>
__device__ __forceinline__ void open_pair(const Batch& batch, int pair, int round, Shared& shared, Logit* room, Pair& rows,
                                          Meanwhile meanwhile) {
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
    meanwhile();
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
    meanwhile();
    __syncthreads();
#endif
}
