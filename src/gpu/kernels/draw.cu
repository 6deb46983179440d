// The last step of the rules over ratio classes: a token of the residual for each pair that was rejected.
#include "draw.cuh"
#include "plan.cuh"
#include "rest.cuh"

// The last cluster to have nothing left to do empties the list, for the next call.
__device__ __forceinline__ void end_draw(const Batch& batch) {
    cluster_leave();
    if (block_in_cluster() == 0 && threadIdx.x == 0) {
        int clusters = (int)(gridDim.x / blocks_of_cluster());
        if (atomicAdd(&batch.rejected[1], 1) == clusters - 1) batch.rejected[0] = batch.rejected[1] = 0;
    }
}

// A pair that was rejected: what is known of it, and what is left to draw.
struct Rejected {
    int pair;
    RowStats stats;
    Rest rest;
};

// Opens a pair that was rejected: its rows, normalised as they were counted. What does not depend on the rows is asked for
// before they have come; the drafts are not.
__device__ __forceinline__ void open_rejected(const Batch& batch, int round, const Setup& s, Pair& rows, Rejected& it) {
    open_pair(batch, it.pair, round, *s.shared, s.room, rows, [&] {
        it.stats = batch.stats[it.pair], it.rest = rest_of(batch, it.pair);
        normalised(it.stats, rows);
    });
    if (!rows.has_draft) rows.share[0] = 0.0f;
}

// Whether the target allows a draft, by what was noted when it was counted.
__device__ __forceinline__ bool is_allowed(const Batch& batch, int pair, int draft) {
    return batch.masses[(long long)pair * MOST_DRAFTS + draft].y > 0.0;
}

// All of the target, where there were no drafts.
__device__ __forceinline__ void draw_all(const Batch& batch, const Rejected& it, const Setup& s, Pair& rows) {
    rows.share[0] = 0.0f;
    auto mass = [&](float, float t) { return rows.q(t); };
    resample(batch, it.pair, s, rows, it.rest.coin, 0, -1, mass, [](int) { return false; });
}

// Calls `draw_one` for the pairs that were rejected, each cluster in turn; with so many bytes of room for counts.
template <typename DrawOne>
__device__ __forceinline__ void draw_rejected(const Batch& batch, unsigned counts, DrawOne draw_one) {
    Setup s = setup(batch.chunk, counts);
    Pair rows;
    Rejected it;
    int blocks = (int)blocks_of_cluster(), clusters = (int)gridDim.x / blocks, place = (int)blockIdx.x / blocks;
    wait_for_last();
    // The list has room for as many as there are clusters; what is beyond its end is not looked at.
    int count = batch.rejected[0], next = batch.rejected[2 + place];
    for (int round = 0; place < count; round++, place += clusters) {
        it.pair = round == 0 ? next : batch.rejected[2 + place];
        if (round > 0) cluster_sync();
        open_rejected(batch, round, s, rows, it);
        draw_one(s, rows, it);
    }
    end_draw(batch);
}

#define PARTS 128  // of the open cell

// The masses of a block's tokens in the open cell by its parts, in units of 2^-31, and then those of all blocks.
struct Parts {
    unsigned own[2][PARTS], all[2][PARTS];
    double rho, beta;
};

static_assert(sizeof(Parts) <= sizeof(Counts), "they are where the counts were");

// What a part says, 1e-4 of a unit of log-ratio wide or less: its tokens count as of one ratio.
struct Rho {
    double rho, beta;
};

// rho* and beta(rho*), from the tokens of the open cell; the same in every thread of every block.
__device__ __forceinline__ Rho find_rho(Shared& shared, Parts& parts, const Pair& rows, const Cells& cells, const OpenCell& open,
                                        int k) {
    int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    (&parts.own[0][0])[threadIdx.x] = 0;
    __syncthreads();
    float low = (float)(cells.first - 1 + open.cell) - 0.5f, scale[2] = {rows.share[0] * ONE, rows.share[1] * ONE};
    // The places of its tokens; the outermost cells hold all that is beyond them too.
    float from = open.cell == 0 ? -INF : cells.place_of(open.cell), to = open.cell == cells.last ? INF : from;
    if (open.cell == 0) to = cells.place_of(0);
    auto part_of = [&](float d, float t) {
        float place = __fmul_rn(__fsub_rn(d, t), cells.per_width) - low;
        return min(max((int)(place * (float)PARTS), 0), PARTS - 1);
    };
    auto add = [&](int part, unsigned p, unsigned q) { atomicAdd(&parts.own[0][part], p), atomicAdd(&parts.own[1][part], q); };
    auto mass = [&](float x, int row) { return __float2uint_rn(exp2_fast(fmaf(x, LOG2_E, rows.shift[row])) * scale[row]); };
    int tiles = tiles_of(rows.target.count);
    for (int tile = warp; tile < tiles; tile += WARPS) {
        int at = tile * TILE + lane * WIDE;
        float d[WIDE], t[WIDE];
        rows.draft.load(at, d);
        rows.target.load(at, t);
        unsigned inside = 0;
#pragma unroll
        for (int j = 0; j < WIDE; j++) {
            float place = cells.place(d[j], t[j]);
            if (place >= from && place <= to) inside |= 1u << j;
        }
        unsigned some = __reduce_add_sync(~0u, (unsigned)__popc(inside));
        if (some == 0) continue;
        if (some < 2 * 32) {
            // Few: each lane looks its own up again.
            for (; inside != 0; inside &= inside - 1) {
                int i = at + __ffs((int)inside) - 1;
                float x = rows.draft.at(i), y = rows.target.at(i);
                add(part_of(x, y), mass(x, 0), mass(y, 1));
            }
            continue;
        }
        // Many, as where rows are equal or in few bits: then most are in one part, and are added up first.
#pragma unroll
        for (int j = 0; j < WIDE; j++) {
            bool is_inside = (inside >> j & 1) != 0;
            unsigned lanes = __ballot_sync(~0u, is_inside);
            if (lanes == 0) continue;
            int part = part_of(d[j], t[j]);
            unsigned p = is_inside ? mass(d[j], 0) : 0u, q = is_inside ? mass(t[j], 1) : 0u;
            int one = __shfl_sync(~0u, part, __ffs((int)lanes) - 1);
            if (__all_sync(~0u, !is_inside || part == one)) {
                p = __reduce_add_sync(~0u, p), q = __reduce_add_sync(~0u, q);
                if (lane == 0) add(one, p, q);
            } else if (is_inside) {
                add(part, p, q);
            }
        }
    }
    cluster_sync();
    static_assert(THREADS == 2 * PARTS, "a number a thread");
    unsigned sum = 0;
    // Eight blocks are asked before the first has answered.
    for (unsigned block = 0; block < blocks_of_cluster(); block += 8) {
        unsigned theirs[8];
#pragma unroll
        for (unsigned j = 0; j < 8; j++) {
            theirs[j] = block + j < blocks_of_cluster() ? remote_u32(&parts.own[0][0] + threadIdx.x, block + j) : 0u;
        }
#pragma unroll
        for (int j = 0; j < 8; j++) sum += theirs[j];
    }
    (&parts.all[0][0])[threadIdx.x] = sum;
    __syncthreads();
    if (warp == 0) {
        const int each = PARTS / 32;
        double p = 0.0, q = 0.0;
#pragma unroll
        for (int i = 0; i < each; i++) p += (double)parts.all[0][lane * each + i], q += (double)parts.all[1][lane * each + i];
        double upto_p = warp_scan(p), upto_q = warp_scan(q);
        double all_p = __shfl_sync(~0u, upto_p, 31), all_q = __shfl_sync(~0u, upto_q, 31);
        // To the masses of the cell as they were counted.
        double per_p = all_p > 0.0 ? open.p / all_p : 0.0, per_q = all_q > 0.0 ? open.q / all_q : 0.0;
        double below = open.below_p + (upto_p - p) * per_p, above = open.above_q + (all_q - upto_q + q) * per_q;
        double width = 1.0 / ((double)cells.per_width * PARTS);
        // rho falls from part to part: the last whose lower end is valid holds rho*. That of the first is, but for rounding.
        auto is_valid_at = [&](int part, double below, double above) {
            double log_ratio = open.log_low + (double)part * width, rho = exp(-log_ratio);
            return log_ratio <= 0.0 &&
                   (rho >= (double)k || draftpick::is_valid(rho, draftpick::smaller(below + above / rho, 1.0), k));
        };
        int part = 0;
        // Among the lanes' first parts, and then among those of a lane.
#pragma unroll
        for (int level = 0; level < 2; level++) {
            int own = level == 0 ? lane * each : part + (lane & (each - 1));
            if (level == 1) {
                below = __shfl_sync(~0u, below, part / each), above = __shfl_sync(~0u, above, part / each);
                for (int i = part; i < own; i++) below += parts.all[0][i] * per_p, above -= parts.all[1][i] * per_q;
            }
            unsigned valid = __ballot_sync(~0u, is_valid_at(own, below, above)) & (level == 0 ? ~0u : (1u << each) - 1);
            int last = max(31 - __clz((int)valid), 0);
            part = level == 0 ? last * each : part + last;
        }
        below = __shfl_sync(~0u, below, part % each), above = __shfl_sync(~0u, above, part % each);
        draftpick::Bracket bracket;
        bracket.masses = draftpick::Mass{parts.all[0][part] * per_p, parts.all[1][part] * per_q};
        bracket.whole = below, bracket.discounted = above - bracket.masses.q;
        double most = (double)k, rho = exp(-(open.log_low + (double)part * width));
        bracket.upper = fmin(fmax(rho, 1.0), most), bracket.lower = fmin(fmax(rho * exp(-width), 1.0), most);
        rho = draftpick::least_rho(bracket, k, 1e-11);
        if (lane == 0) parts.rho = rho, parts.beta = draftpick::most_beta(bracket, rho);
    }
    __syncthreads();
    return Rho{parts.rho, parts.beta};
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE) draw_kseq(const __grid_constant__ Batch batch) {
    draw_rejected(batch, sizeof(Counts), [&](const Setup& s, Pair& rows, const Rejected& it) {
        if (it.rest.classes == 0) {
            draw_all(batch, it, s, rows);
            return;
        }
        int k = drafts_of(batch, it.pair);
        const OpenCell open = open_cell_of(batch, it.pair);
        Cells cells(batch.grids[k], it.stats.first, it.stats.cells - 1);
        Rho found{open.rho, open.beta};
        if (open.cell >= 0) found = find_rho(*s.shared, *reinterpret_cast<Parts*>(s.counts), rows, cells, open, k);
        if (open.decides) {
            const double2* masses = batch.masses + (long long)it.pair * MOST_DRAFTS;
            const double* coins = batch.draws + (long long)it.pair * (MOST_DRAFTS + 2);
            for (int i = 0; i < k; i++) {
                if (coins[i] < accept_probability(masses[i].y, found.rho * masses[i].x)) {
                    accepted(batch, it.pair, i);
                    return;
                }
            }
        }
        double worth = draftpick::tries(found.beta, k), rest = 1.0 - worth / found.rho;
        // At rho* itself `worth` is rho, and the rest nothing but rounding.
        float of_p = -(float)worth, least = rest > ACCURACY ? (float)rest : 0.0f;
        auto mass = [&](float d, float t) {
            float q = rows.q(t);
            return fmaxf(fmaf(rows.p(d), of_p, q * SURE), q * least);
        };
        auto allows = [&](int i) { return is_allowed(batch, it.pair, i); };
        resample(batch, it.pair, s, rows, it.rest.coin, k, -1, mass, allows);
    });
}

// The residual mass of the tokens of one class; of none where `of` is no class.
struct ClassMass {
    const Pair* rows;
    Cells cells;
    unsigned of;
    float of_q, of_p;

    __device__ __forceinline__ float mass(float p, float q, unsigned cell) const {
        return cell == of ? fmaxf(fmaf(q, of_q, p * of_p), 0.0f) : 0.0f;
    }
    __device__ __forceinline__ float operator()(float d, float t) const {
        return mass(rows->p(d), rows->q(t), cells.cell(d, t));
    }
};

// A class, and what of the threshold is left in it.
struct Chosen {
    int of;
    double left;
};

// The class in which the sum of the known masses, in the order of the classes, exceeds the threshold; the last of any
// mass if rounding left none, -1 if none has any. Every warp finds it: 32 places at a time.
__device__ __forceinline__ Chosen choose(const ClassRest* classes, const Rest& rest, double threshold) {
    if (rest.last < 0) return Chosen{-1, 0.0};
    int lane = threadIdx.x & 31, low = 0, high = rest.last;
    while (low < high) {
        int step = (high - low + 32) / 33, at = min(low + (lane + 1) * step - 1, high);
        unsigned over = __ballot_sync(~0u, at >= high || threshold < classes[at].upto);
        int found = __ffs((int)over) - 1;
        if (over) high = min(low + (found + 1) * step - 1, high);
        low = min(low + (over ? found : 32) * step, high);
    }
    return Chosen{low, fmax(threshold - (low > 0 ? classes[low - 1].upto : 0.0), 0.0)};
}

__device__ __forceinline__ void draw_pair(const Batch& batch, int pair, const Setup& s, Pair& rows, const RowStats& stats,
                                          const Rest& rest) {
    const ClassRest* classes = classes_of(batch, pair);
    Shared& shared = *s.shared;
    int drafts = drafts_of(batch, pair);
    Cells cells(batch.grids[drafts], stats.first, stats.cells - 1);
    auto mass_of = [&](int of) {
        if (of < 0) return ClassMass{&rows, cells, ~0u, 0.0f, 0.0f};
        return ClassMass{&rows, cells, (unsigned)of, classes[of].of_q, classes[of].of_p};
    };
    // The class that only the rows tell of, and the one that it would be without it: in nearly all cases it is.
    Chosen chosen = choose(classes, rest, rest.coin * rest.known);
    ClassMass unknown = mass_of(rest.unknown), known = mass_of(chosen.of);
    auto both = [&](float d, float t, float (&m)[2]) {
        unsigned cell = cells.cell(d, t);
        float p = rows.p(d), q = rows.q(t);
        m[0] = unknown.mass(p, q, cell), m[1] = known.mass(p, q, cell);
    };
    add_up<2>(shared, s.tile_sums, rows, both);
    double sum = total_of(shared, 0), total = rest.known + sum, threshold = rest.coin * total;
    if (rest.draft >= 0 && total <= ACCURACY) {
        accepted(batch, pair, rest.draft);
        return;
    }
    // It comes last: if the coin is beyond the others, the token is in it, also where rounding left them nothing.
    bool found = sum > 0.0 && (threshold >= rest.known || chosen.of < 0);
    if (found) {
        locate(shared, s.tile_sums, rows, 0, threshold - rest.known, unknown);
    } else if (chosen.of >= 0) {
        Chosen now = choose(classes, rest, threshold);
        if (now.of != chosen.of) {
            chosen = now, known = mass_of(now.of);
            // All have read the sums.
            cluster_sync();
            add_up<2>(shared, s.tile_sums, rows, both);
        }
        found = total_of(shared, 1) > 0.0;
        if (found) locate(shared, s.tile_sums, rows, 1, now.left, known);
    }
    if (found) {
        give(batch, pair, shared);
    } else {
        keep_possible(batch, pair, s, rows, rest.coin, drafts, [&](int i) { return is_allowed(batch, pair, i); });
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE) draw_optimal(const __grid_constant__ Batch batch) {
    draw_rejected(batch, 0, [&](const Setup& s, Pair& rows, const Rejected& it) {
        if (it.rest.classes == 0) {
            draw_all(batch, it, s, rows);
            return;
        }
        draw_pair(batch, it.pair, s, rows, it.stats, it.rest);
    });
}
