// The next token of each tree, and tokens of rows for drafting.
//
// draw_next    some blocks a tree     the rows of the node where the winner stops again: the token
// draw_rows    some blocks a row      tokens of a row by inversion, for drafting
//
// Nothing waits for the host. Tiles of a row are summed by all blocks of a tree, and the last to finish looks for the
// token in the tile where the sum exceeds the coin.
#include "trees.cuh"

#define NAN_F32 __int_as_float(0x7fffffff)
#define DRAW_THREADS 256
#define DRAW_WARPS (DRAW_THREADS / 32)

// ---- the next token --------------------------------------------------------------------------------------------

// e^x, relative 1e-12, for x <= 700; 0 below -700.
__device__ __forceinline__ double exp_of(double x) {
    const double clipped = x > -700.0 ? x : -700.0;
    const double rounded = fma(clipped, 1.4426950408889634, 6755399441055744.0);
    const double n = rounded - 6755399441055744.0;
    const double f = fma(n, -1.9082149292705877e-10, fma(n, -0.6931471803691238, clipped));
    // The Taylor polynomial of degree 10 on |f| <= ln 2/2.
    double y = 1.0 / 3628800.0;
    y = fma(y, f, 1.0 / 362880.0);
    y = fma(y, f, 1.0 / 40320.0);
    y = fma(y, f, 1.0 / 5040.0);
    y = fma(y, f, 1.0 / 720.0);
    y = fma(y, f, 1.0 / 120.0);
    y = fma(y, f, 1.0 / 24.0);
    y = fma(y, f, 1.0 / 6.0);
    y = fma(y, f, 0.5);
    y = fma(y, f, 1.0);
    y = fma(y, f, 1.0);
    y = __longlong_as_double(__double_as_longlong(y) + (__double_as_longlong(rounded) << 52));
    return x > -700.0 ? y : 0.0;
}

// What the logits of a row are taken less, as a sum of two f32.
struct Reference {
    float high, low;
};

__device__ __forceinline__ Reference reference(double x) { return Reference{(float)x, (float)(x - (double)(float)x)}; }

// e^(logit - reference), relative 4e-7: the rounding of the difference and of its product with log2 e are made up for.
// 0 below e^-87.
__device__ __forceinline__ float exp_from(float logit, Reference from) {
    const float x = logit - from.high, back = x - logit;
    const float rest = ((logit - (x - back)) - (from.high + back)) - from.low;
    const float high = x * LOG2_E;
    const float low = fmaf(rest, LOG2_E, fmaf(x, 1.9259630e-8f, fmaf(x, LOG2_E, -high)));
    const float y = exp2_fast(high);
    return x > -87.0f ? fmaf(y, low * 0.6931472f, y) : 0.0f;
}

// The same in three instructions, relative 1e-6: `share` makes up for what the rounding of the shift leaves.
struct PowerShift {
    float shift, share;
};

__device__ __forceinline__ PowerShift shift_of(double reference) {
    const float shift = -(float)(reference * 1.4426950408889634);
    return PowerShift{shift, (float)exp_of(-(reference * (double)LOG2_E + (double)shift) * 0.6931471805599453)};
}

__device__ __forceinline__ float power_from(float logit, PowerShift by) {
    return exp2_fast(fmaf(logit, LOG2_E, by.shift)) * by.share;
}

// The logits of a lane's tokens in a tile, as they are in memory.
struct Raw {
    uint4 bits;
};

// A row, and how its logits are shaped.
struct RowView {
    const Logit* logits;
    float scale, least;
    int tie;  // of those at `least` itself the tokens before it are masked too
    int vocab;
    bool aligned;

    // The logits from `at` on, a multiple of WIDE; masked beyond the end.
    __device__ __forceinline__ Raw raw(int at) const {
        if (aligned && at + WIDE <= vocab) return Raw{__ldg(reinterpret_cast<const uint4*>(logits + at))};
        Raw raw;
        Logit* own = reinterpret_cast<Logit*>(&raw.bits);
#pragma unroll 1
        for (int j = 0; j < WIDE; j++) own[j] = at + j < vocab ? logits[at + j] : masked();
        return raw;
    }
    __device__ __forceinline__ float shape(float x, int token) const {
        x *= scale;
        return x < least || (x == least && token < tie) ? -INF : x;
    }
    // What was loaded from `at` on.
    __device__ __forceinline__ void widened(const Raw& raw, int at, float (&x)[WIDE]) const {
        widen_vector(raw.bits, x);
#pragma unroll
        for (int j = 0; j < WIDE; j++) x[j] = shape(x[j], at + j);
    }
    __device__ __forceinline__ float one(int token) const {
        return token < vocab ? shape(widen(logits[token]), token) : -INF;
    }
};

__device__ __forceinline__ RowView view_of(const Logit* row, const float* scale, const float* least, const int* tie, int pair,
                                           int vocab) {
    return RowView{row, scale ? scale[pair] : 1.0f, least ? least[pair] : -INF, tie ? tie[pair] : 0, vocab,
                   ((unsigned long long)row & 15) == 0};
}

__device__ __forceinline__ float sum_of_lanes(float x) {
    for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(~0u, x, step);
    return x;
}

// A law that a token is drawn from, tile by tile, in f32 where it is of two rows; in the tile where the token is, in f64:
// `sum` is a warp's sum over a tile, of one law, or of two of which the second follows the first. Those of the target alone
// are relative to the tile's largest logit, which comes second. `mass` is that of one token.
struct TargetLaw {
    RowView row;

    struct Loaded {
        Raw row;
    };
    __device__ __forceinline__ Loaded load(int at) const { return Loaded{row.raw(at)}; }
    __device__ __forceinline__ double2 sum(const Loaded& loaded, int at) const {
        float x[WIDE], most = -INF;
        row.widened(loaded.row, at, x);
#pragma unroll
        for (int j = 0; j < WIDE; j++) most = max_or_nan(most, x[j]);
        for (int step = 16; step > 0; step >>= 1) most = max_or_nan(most, __shfl_xor_sync(~0u, most, step));
        // A row that is no law makes the sum no number.
        double sum = most < INF ? 0.0 : (double)NAN_F32;
        if (most > -INF && most < INF) {
#pragma unroll
            for (int j = 0; j < WIDE; j++) sum += (double)exp_from(x[j], Reference{most, 0.0f});
        }
        return make_double2(warp_sum(sum), (double)most);
    }
    __device__ __forceinline__ double mass(int token, int, double most) const {
        return (double)exp_from(row.one(token), Reference{(float)most, 0.0f});
    }
};

// A node's two rows.
struct PairView {
    RowView draft, target;
    Reference draft_sum, target_sum;
    PowerShift draft_shift, target_shift;

    struct Loaded {
        Raw draft, target;
    };
    __device__ __forceinline__ Loaded load(int at) const { return Loaded{draft.raw(at), target.raw(at)}; }
    __device__ __forceinline__ Mass mass(float d, float t) const {
        return Mass{(double)exp_from(d, draft_sum), (double)exp_from(t, target_sum)};
    }
    // The masses of a token as the sums over tiles have them: to a few roundings of the exponent.
    __device__ __forceinline__ float p(float d) const { return power_from(d, draft_shift); }
    __device__ __forceinline__ float q(float t) const { return power_from(t, target_shift); }
};

__device__ __forceinline__ PairView pair_at(const Trees& trees, int pair) {
    const RowStats row = trees.stats[pair];
    return PairView{view_of(row_at(trees.draft, trees.draft_stride, trees.draft_rows, pair), trees.draft_scale,
                            trees.draft_least, trees.draft_tie, pair, trees.vocab),
                    view_of(row_at(trees.target, trees.target_stride, trees.target_rows, pair), trees.target_scale,
                            trees.target_least, trees.target_tie, pair, trees.vocab),
                    reference(row.draft_log_sum), reference(row.target_log_sum), shift_of(row.draft_log_sum),
                    shift_of(row.target_log_sum)};
}

// (P_t q - p)+.
struct ResidualLaw {
    PairView rows;
    double weight;

    typedef PairView::Loaded Loaded;
    __device__ __forceinline__ Loaded load(int at) const { return rows.load(at); }
    __device__ __forceinline__ double of(Mass here) const { return fmax(weight * here.q - here.p, 0.0); }
    __device__ __forceinline__ double2 sum(const Loaded& loaded, int at) const {
        float d[WIDE], t[WIDE];
        rows.draft.widened(loaded.draft, at, d);
        rows.target.widened(loaded.target, at, t);
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < WIDE; j++) sum += fmaxf(fmaf((float)weight, rows.q(t[j]), -rows.p(d[j])), 0.0f);
        return make_double2((double)sum_of_lanes(sum), 0.0);
    }
    __device__ __forceinline__ double mass(int token, int, double) const {
        return of(rows.mass(rows.draft.one(token), rows.target.one(token)));
    }
};

// The cell that a token was counted in.
__device__ __forceinline__ int cell_of(float d, float t, float per_width, int first, int last) {
    const float place = fmaxf(__fmul_rn(__fsub_rn(d, t), per_width), -2097152.0f);
    const int number = (int)(__float_as_uint(__fadd_rn(place, 12582912.0f)) - __float_as_uint(12582912.0f));
    return max(0, min(number - first + 1, last));
}

// The sums over a tile of a law on the tokens of two stretches of cells, the second right above the first or elsewhere.
template <class Law>
__device__ __forceinline__ double2 sum_of_two(const Law& law, const PairView::Loaded& loaded, int at) {
    float d[WIDE], t[WIDE];
    law.rows.draft.widened(loaded.draft, at, d);
    law.rows.target.widened(loaded.target, at, t);
    // Most classes hold few tokens: each lane takes its next.
    unsigned below = 0, inside = 0;
#pragma unroll
    for (int j = 0; j < WIDE; j++) {
        const int here = cell_of(d[j], t[j], law.per_width, law.first, law.last);
        const unsigned first = here >= law.from[0] && here <= law.to[0] ? 1u << j : 0u;
        below |= first;
        inside |= here >= law.from[1] && here <= law.to[1] ? 1u << j : first;
    }
    float sums[2] = {0.0f, 0.0f};
    if (__all_sync(~0u, inside == (1u << WIDE) - 1)) {
        // Equal or uniform rows.
#pragma unroll
        for (int j = 0; j < WIDE; j++) {
            const bool first = below >> j & 1u;
            const float mass = law.roughly_of(law.rows.p(d[j]), law.rows.q(t[j]), first ? 0 : 1);
            sums[0] += first ? mass : 0.0f;
            sums[1] += first ? 0.0f : mass;
        }
    } else {
        if (!__any_sync(~0u, inside != 0)) return make_double2(0.0, 0.0);
        while (inside) {
            const int j = __ffs((int)inside) - 1;
            inside &= inside - 1;
            const bool first = below >> j & 1u;
            const float mass = law.roughly_of(law.rows.p(law.rows.draft.one(at + j)), law.rows.q(law.rows.target.one(at + j)), first ? 0 : 1);
            sums[0] += first ? mass : 0.0f;
            sums[1] += first ? 0.0f : mass;
        }
        __syncwarp();
    }
    return make_double2((double)sum_of_lanes(sums[0]), (double)sum_of_lanes(sums[1]));
}

// The tokens of a ratio edge by their draft mass on it: those of the class below the edge, then those of the one above.
// Of ratio 0: the tokens of the lowest class by the target mass that is not on its upper edge.
struct EdgeLaw {
    PairView rows;
    float per_width;
    int first, last;         // the grid number of cell 1, and the number of the last cell
    int from[2], to[2];      // the cells of the two classes
    double high[2], low[2];  // 1/r at the ends of the classes; the lowest has only `low`
    double per[2];           // the inverse of their difference
    bool lowest, undrafted;

    typedef PairView::Loaded Loaded;
    __device__ __forceinline__ Loaded load(int at) const { return rows.load(at); }
    // What a token has on the edge as one of class `part`, in f32.
    __device__ __forceinline__ float roughly_of(float p, float q, int part) const {
        if (!(q > 0.0f)) return 0.0f;
        if (undrafted) return fmaxf(q - p * (float)low[0], 0.0f);
        if (part == 0 && lowest) return p;
        const float upper = part == 0 ? (p * (float)high[0] - q) * (float)per[0] : (p * (float)high[1] - q) * (float)per[1];
        const float on_upper = fminf(fmaxf(upper, 0.0f), p);
        return part == 0 ? on_upper : p - on_upper;
    }
    // The same in f64.
    __device__ __forceinline__ double of(float d, float t, int part) const {
        const Mass token = rows.mass(d, t);
        if (!(token.q > 0.0)) return 0.0;
        if (undrafted) return fmax(token.q - token.p * low[0], 0.0);
        if (part == 0 && lowest) return token.p;
        const double upper = part == 0 ? (token.p * high[0] - token.q) * per[0] : (token.p * high[1] - token.q) * per[1];
        const double on_upper = clamped(upper, 0.0, token.p);
        return part == 0 ? on_upper : token.p - on_upper;
    }
    __device__ __forceinline__ double2 sum(const Loaded& loaded, int at) const {
        return sum_of_two(*this, loaded, at);
    }
    __device__ __forceinline__ double mass(int token, int part, double) const {
        const float d = rows.draft.one(token), t = rows.target.one(token);
        const int here = cell_of(d, t, per_width, first, last);
        const int least = part == 0 ? from[0] : from[1], most = part == 0 ? to[0] : to[1];
        return here >= least && here <= most ? of(d, t, part) : 0.0;
    }
};

// (P_t q - a)+ of the tokens of two ratio classes, either of which may be none.
struct ClassLaw {
    PairView rows;
    float per_width;
    int first, last;     // the grid number of cell 1, and the number of the last cell
    int from[2], to[2];  // the cells of the two classes
    Mass excess[2];      // of a token: excess.q times its target mass and excess.p times its draft mass

    typedef PairView::Loaded Loaded;
    __device__ __forceinline__ Loaded load(int at) const { return rows.load(at); }
    __device__ __forceinline__ float roughly_of(float p, float q, int part) const {
        const float of_q = (float)(part == 0 ? excess[0].q : excess[1].q), of_p = (float)(part == 0 ? excess[0].p : excess[1].p);
        return q > 0.0f ? fmaxf(fmaf(q, of_q, p * of_p), 0.0f) : 0.0f;
    }
    __device__ __forceinline__ double of(float d, float t, int part) const {
        const Mass token = rows.mass(d, t);
        const double of_q = part == 0 ? excess[0].q : excess[1].q, of_p = part == 0 ? excess[0].p : excess[1].p;
        return token.q > 0.0 ? fmax(token.q * of_q + token.p * of_p, 0.0) : 0.0;
    }
    __device__ __forceinline__ double2 sum(const Loaded& loaded, int at) const {
        return sum_of_two(*this, loaded, at);
    }
    __device__ __forceinline__ double mass(int token, int part, double) const {
        const float d = rows.draft.one(token), t = rows.target.one(token);
        const int here = cell_of(d, t, per_width, first, last);
        const int least = part == 0 ? from[0] : from[1], most = part == 0 ? to[0] : to[1];
        return here >= least && here <= most ? of(d, t, part) : 0.0;
    }
};

__device__ __forceinline__ EdgeLaw edge_law(const Trees& trees, const Outcome& outcome) {
    const int pair = outcome.pair;
    const NodePlan& plan = trees.plans[pair];
    const NodeGrid grid = grid_of(trees.stats[pair], trees.per_width, trees.paths_of[pair]);
    EdgeLaw law;
    law.rows = pair_at(trees, pair);
    law.per_width = trees.per_width;
    law.first = grid.first;
    law.last = grid.edges.len - 1;
    law.undrafted = outcome.edge < 0;
    const int edge = max(outcome.edge, 0);
    // Class c is the cells above edge c - 1, up to edge c.
    law.lowest = edge == 0;
    law.from[0] = edge == 0 ? 0 : plan.kept[edge - 1] + 1;
    law.to[0] = plan.kept[edge];
    law.high[0] = edge == 0 ? 0.0 : plan.inverses[edge - 1];
    law.low[0] = plan.inverses[edge];
    const bool above = edge + 1 < plan.len && !law.undrafted;
    law.from[1] = law.to[0] + 1;
    law.to[1] = above ? plan.kept[edge + 1] : law.to[0];
    law.high[1] = plan.inverses[edge];
    law.low[1] = above ? plan.inverses[edge + 1] : 0.0;
    law.per[0] = 1.0 / (law.high[0] - law.low[0]);
    law.per[1] = 1.0 / (law.high[1] - law.low[1]);
    return law;
}

// Of two classes of a node, -1 for none.
__device__ __forceinline__ ClassLaw class_law(const Trees& trees, int pair, double weight, int open, int other) {
    const NodePlan& plan = trees.plans[pair];
    const NodeGrid grid = grid_of(trees.stats[pair], trees.per_width, trees.paths_of[pair]);
    ClassLaw law;
    law.rows = pair_at(trees, pair);
    law.per_width = trees.per_width;
    law.first = grid.first;
    law.last = grid.edges.len - 1;
    const int classes[2] = {open, other};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int of = classes[i];
        law.from[i] = of > 0 ? plan.kept[of - 1] + 1 : 0;
        law.to[i] = of >= 0 ? (int)plan.kept[of] : -1;
        law.excess[i] = of >= 0 ? excess_of(plan, plan.gains, weight, of) : Mass{0.0, 0.0};
    }
    return law;
}

// The tiles of a law from `from` on, every `step`-th, by one warp each. The logits of three more are on their way.
template <class Law>
__device__ __forceinline__ void sum_tiles(const Law& law, int tiles, int from, int step, double2* sums) {
    const int lane = threadIdx.x & 31;
    auto load = [&](int tile) { return law.load(min(tile, tiles - 1) * TILE + lane * WIDE); };
    typename Law::Loaded next = load(from), second = load(from + step), third = load(from + 2 * step);
#pragma unroll 1
    for (int tile = from; tile < tiles; tile += step) {
        const typename Law::Loaded here = next;
        next = second;
        second = third;
        third = load(tile + 3 * step);
        const double2 sum = law.sum(here, tile * TILE + lane * WIDE);
        if (lane == 0) sums[tile] = sum;
    }
}

// What a block looks for a token with.
struct Search {
    double sums[2 * MAX_TILES];  // of the tiles, the second law's after the first's
    double most;
    double totals[DRAW_WARPS];
    int token;
    bool is_last;
    // Of a node's classes: the sum of the known ones, the one that is open, and the one to look into besides.
    double known, threshold;
    int open, other;
};

// Brings the sums into shared memory, those of TARGET relative to the largest logit, and returns their sum.
__device__ __forceinline__ double gather(Search& search, const volatile double2* sums, int tiles, bool relative, bool two) {
    const Warp warp;
    double most = -1e300;
    if (relative) {
        for (int i = threadIdx.x; i < tiles; i += DRAW_THREADS) most = fmax(most, sums[i].y);
        most = warp.max(most);
        if (warp.lane() == 0) search.totals[threadIdx.x / 32] = most;
        __syncthreads();
        for (int i = 0; i < DRAW_WARPS; i++) most = fmax(most, search.totals[i]);
        __syncthreads();
    }
    double total = 0.0;
    for (int i = threadIdx.x; i < tiles; i += DRAW_THREADS) {
        double sum = sums[i].x;
        // Not a number stays what it is.
        if (relative && !(sum <= 0.0)) sum *= exp_of(sums[i].y - most);
        search.sums[i] = sum;
        total += sum;
        if (two) {
            search.sums[tiles + i] = sums[i].y;
            total += sums[i].y;
        }
    }
    total = warp.sum(total);
    if (warp.lane() == 0) search.totals[threadIdx.x / 32] = total;
    if (threadIdx.x == 0) search.most = most;
    __syncthreads();
    total = 0.0;
    for (int i = 0; i < DRAW_WARPS; i++) total += search.totals[i];
    return total;
}

// The token at which the running sum over `count` tiles from `start` on exceeds the threshold, or the last of any mass; -1
// if none has. One warp.
template <class Law>
__device__ __forceinline__ int find(const Law& law, const Search& search, int tiles, int start, int count, double threshold) {
    const Warp warp;
    // Each lane has neighbouring tiles.
    const int each = (count + 31) / 32, first = start + min(warp.lane() * each, count);
    const int end = min(first + each, start + count);
    double own = 0.0;
    for (int i = first; i < end; i++) own += search.sums[i];
    const double upto = warp.scan(own);
    const unsigned over = __ballot_sync(~0u, own > 0.0 && threshold < upto), some = __ballot_sync(~0u, own > 0.0);
    if (some == 0) return -1;
    const int holder = over ? __ffs((int)over) - 1 : 31 - __clz((int)some);
    int tile = -1;
    double before = 0.0;
    if (warp.lane() == holder) {
        double cumulative = upto - own;
        for (int i = first; i < end; i++) {
            if (!(search.sums[i] > 0.0)) continue;
            tile = i;
            before = cumulative;
            cumulative += search.sums[i];
            if (threshold < cumulative) break;
        }
    }
    tile = warp.from(tile, holder);
    const double left = threshold - warp.from(before, holder);
    // Its tokens, 32 at a time.
    const int part = tile / tiles, at = (tile - part * tiles) * TILE + warp.lane();
    double mass[WIDE];
#pragma unroll
    for (int j = 0; j < WIDE; j++) mass[j] = law.mass(at + 32 * j, part, search.most);
    double cumulative = 0.0;
    int token = -1;
#pragma unroll 1
    for (int j = 0; j < WIDE; j++) {
        const double here = mass[j], upto_here = cumulative + warp.scan(here);
        const unsigned passed = __ballot_sync(~0u, here > 0.0 && left < upto_here);
        const unsigned filled = __ballot_sync(~0u, here > 0.0);
        const int base = (tile - part * tiles) * TILE + 32 * j;
        if (passed) return base + __ffs((int)passed) - 1;
        if (filled) token = base + 31 - __clz((int)filled);
        cumulative = warp.from(upto_here, 31);
    }
    return token;
}

// Whether this block is the last of those that work on `index`; the others' sums are then visible.
__device__ __forceinline__ bool finishes(Search& search, unsigned* done, int index, int splits) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        const unsigned before = atomicAdd(&done[index], 1u);
        search.is_last = before + 1 == (unsigned)splits;
        if (search.is_last) done[index] = 0;
    }
    __syncthreads();
    __threadfence();
    return search.is_last;
}

__device__ __forceinline__ void write(const Trees& trees, int index, const Outcome& outcome, int next) {
    const Tree tree = tree_at(trees, index);
    const long long at = (long long)index * (trees.length + 1);
    const bool refused = outcome.kind == REFUSED;
    for (int t = threadIdx.x; t <= trees.length; t += blockDim.x) {
        int token = -1;
        if (!refused && t < outcome.depth) token = tree.tokens[outcome.path * trees.length + t];
        if (!refused && t == outcome.depth) token = next;
        trees.output[at + t] = token;
    }
    if (threadIdx.x == 0) {
        trees.accepted[index] = refused ? -1 : outcome.depth;
        trees.winners[index] = refused ? -1 : outcome.path;
        trees.flags[index] = outcome.flags;
    }
}

__device__ __forceinline__ TargetLaw target_at(const Trees& trees, int pair) {
    const Logit* row = row_at(trees.target, trees.target_stride, trees.target_rows, pair);
    return TargetLaw{view_of(row, trees.target_scale, trees.target_least, trees.target_tie, pair, trees.vocab)};
}

// Where rounding has left what is to be drawn no mass: the target's own token at the node, as `next_or_target` of
// src/path/outcome.rs, which says how often that is. By the last block of the tree alone.
__device__ __noinline__ void draw_from_target(const Trees& trees, int index, Outcome& outcome, Search& search) {
    const TargetLaw law = target_at(trees, outcome.pair);
    double2* sums = trees.tiles + (long long)index * MAX_TILES;
    const int tiles = (trees.vocab + TILE - 1) / TILE, warp = threadIdx.x / 32;
    // All have read what was found before.
    __syncthreads();
    sum_tiles(law, tiles, warp, DRAW_WARPS, sums);
    __threadfence_block();
    __syncthreads();
    const double total = gather(search, sums, tiles, true, false);
    outcome.kind = TARGET;
    outcome.coin = tree_at(trees, index).coin(COIN_RESIDUAL, outcome.depth, 0);
    if (warp == 0) {
        const int token = total > 0.0 ? find(law, search, tiles, 0, tiles, outcome.coin * total) : -1;
        if (threadIdx.x == 0) search.token = token;
    }
    __syncthreads();
    // The row was read before and is a law.
    if (search.token < 0) outcome.kind = REFUSED, outcome.flags = ROW_NO_RESIDUAL;
}

template <class Law>
__device__ __noinline__ void draw_by(const Trees& trees, const Law& given, int index, int split, Outcome outcome,
                                     Search& search) {
    // In registers: through the reference it would be read again for every tile.
    const Law law = given;
    double2* sums = trees.tiles + (long long)index * MAX_TILES;
    const int tiles = (trees.vocab + TILE - 1) / TILE, warp = threadIdx.x / 32;
    sum_tiles(law, tiles, split * DRAW_WARPS + warp, trees.splits * DRAW_WARPS, sums);
    if (!finishes(search, trees.done, index, trees.splits)) return;
    const bool two = outcome.kind == EDGE;
    const double total = gather(search, sums, tiles, outcome.kind == TARGET, two);
    if (warp == 0) {
        // Not a number is not positive.
        const int token = total > 0.0 ? find(law, search, tiles, 0, two ? 2 * tiles : tiles, outcome.coin * total) : -1;
        if (threadIdx.x == 0) search.token = token;
    }
    __syncthreads();
    if (search.token < 0 && outcome.kind == TARGET) {
        outcome.flags = total <= 0.0 ? ROW_TARGET_ALL_MASKED : ROW_TARGET_NOT_A_NUMBER;
        outcome.kind = REFUSED;
    } else if (search.token < 0) {
        draw_from_target(trees, index, outcome, search);
    }
    write(trees, index, outcome, search.token);
}

// A node of the winner's path where it may stop.
struct Halt {
    int index, depth, pair;
    double weight, coin;
    bool decided;  // whether it does
};

// Whether the winner stops at a place, given the sum of what is left there.
__device__ __forceinline__ bool stops(const Tree& tree, const Halt& place, double total) {
    return place.decided || place.depth == 0
        || tree.coin(COIN_ACCEPT, place.depth, 0) < keep_probability(total, place.weight);
}

// What comes of a place: the token, -1 where nothing is left, or that the winner is given up further.
#define GOES_ON -2

// Draws by (P_t q - p)+. The blocks of a tree add up the tiles together, or one block does `alone`; that one is told.
__device__ __noinline__ void draw_left(const Trees& trees, const Tree& tree, const Halt& place, int split, bool alone,
                                       Search& search) {
    double2* sums = trees.tiles + (long long)place.index * MAX_TILES;
    const int tiles = (trees.vocab + TILE - 1) / TILE, warp = threadIdx.x / 32;
    const ResidualLaw law{pair_at(trees, place.pair), place.weight};
    sum_tiles(law, tiles, alone ? warp : split * DRAW_WARPS + warp, alone ? DRAW_WARPS : trees.splits * DRAW_WARPS, sums);
    if (!alone && !finishes(search, trees.done, place.index, trees.splits)) return;
    __threadfence_block();
    __syncthreads();
    const double total = gather(search, sums, tiles, false, false);
    if (warp == 0) {
        int token = GOES_ON;
        if (stops(tree, place, total)) token = total > 0.0 ? find(law, search, tiles, 0, tiles, place.coin * total) : -1;
        if (threadIdx.x == 0) search.token = token;
    }
    __syncthreads();
}

// The same by (P_t q - a)+: first the class, then the token in it.
__device__ __noinline__ void draw_by_class(const Trees& trees, const Tree& tree, const Halt& place, int split, bool alone,
                                           Search& search) {
    const Warp team;
    double2* sums = trees.tiles + (long long)place.index * MAX_TILES;
    const int tiles = (trees.vocab + TILE - 1) / TILE, warp = threadIdx.x / 32;
    const NodePlan& plan = trees.plans[place.pair];
    if (warp == 0) {
        const Left left = left_of(team, plan, plan.gains, place.weight);
        // The class that it will be, very likely.
        const double likely = 0.5 * (left.bounds.least + left.bounds.most);
        const ClassChoice choice =
            class_at(team, plan, plan.gains, place.weight, left.open, likely, place.coin * (left.known + likely));
        if (team.lane() == 0) {
            search.known = left.known;
            search.open = left.open;
            search.other = choice.of;
        }
    }
    __syncthreads();
    const int open = search.open, other = search.other;
    ClassLaw law = class_law(trees, place.pair, place.weight, open, other == open ? -1 : other);
    sum_tiles(law, tiles, alone ? warp : split * DRAW_WARPS + warp, alone ? DRAW_WARPS : trees.splits * DRAW_WARPS, sums);
    if (!alone && !finishes(search, trees.done, place.index, trees.splits)) return;
    __threadfence_block();
    __syncthreads();
    gather(search, sums, tiles, false, true);
    if (warp == 0) {
        double open_sum = 0.0;
        for (int i = team.lane(); i < tiles; i += 32) open_sum += search.sums[i];
        open_sum = team.sum(open_sum);
        const double total = search.known + open_sum;
        int token = GOES_ON, chosen = other;
        double threshold = 0.0;
        if (stops(tree, place, total)) {
            const ClassChoice choice =
                class_at(team, plan, plan.gains, place.weight, open, open_sum, place.coin * total);
            token = -1;
            chosen = choice.of;
            threshold = choice.threshold;
            if (chosen >= 0 && chosen == open) token = find(law, search, tiles, 0, tiles, threshold);
            if (chosen >= 0 && chosen != open && chosen == other) token = find(law, search, tiles, tiles, tiles, threshold);
        }
        if (team.lane() == 0) {
            search.token = token;
            search.threshold = threshold;
            // Neither of the two: one more pass.
            search.other = chosen < 0 || chosen == open || chosen == other ? -1 : chosen;
        }
    }
    __syncthreads();
    const int third = search.other;
    if (third < 0) return;
    law = class_law(trees, place.pair, place.weight, -1, third);
    sum_tiles(law, tiles, warp, DRAW_WARPS, sums);
    __threadfence_block();
    __syncthreads();
    gather(search, sums, tiles, false, true);
    if (warp == 0) {
        const int token = find(law, search, tiles, tiles, tiles, search.threshold);
        if (team.lane() == 0) search.token = token;
    }
    __syncthreads();
}

// What is left at a node of the winner's path: where the cells did not settle whether it stops there, the sum over the
// tokens does.
__device__ __noinline__ void draw_residual(const Trees& trees, int index, int split, Outcome outcome, Search& search) {
    const Tree tree = tree_at(trees, index);
    const long long at = (long long)index * (trees.length + 1);
    const int* nodes = tree.nodes + outcome.path * (trees.length + 1);
    bool alone = false;
    for (;;) {
        const int t = outcome.depth, decision = trees.decisions[at + t];
        const Halt place{index, t, nodes[t], trees.weights[at + t], tree.coin(COIN_RESIDUAL, t, 0), (decision & ~BY_CLASS) == YES};
        if (decision & BY_CLASS) {
            draw_by_class(trees, tree, place, split, alone, search);
        } else {
            draw_left(trees, tree, place, split, alone, search);
        }
        if (!alone && !search.is_last) return;
        if (search.token != GOES_ON) break;
        // Further up, by this block alone.
        alone = true;
        int next = t - 1;
        while (next > 0 && (trees.decisions[at + next] & ~BY_CLASS) == NO) next -= 1;
        outcome.depth = next;
        __syncthreads();
    }
    if (search.token < 0) {
        outcome.pair = nodes[outcome.depth];
        draw_from_target(trees, index, outcome, search);
    }
    write(trees, index, outcome, search.token);
}

extern "C" __global__ void __launch_bounds__(DRAW_THREADS, 2) draw_next(const __grid_constant__ Trees trees) {
    __shared__ Search search;
    const int index = blockIdx.x / trees.splits, split = blockIdx.x % trees.splits;
    wait_for_last();
    const Outcome outcome = trees.outcomes[index];
    switch (outcome.kind) {
        case TARGET: draw_by(trees, target_at(trees, outcome.pair), index, split, outcome, search); break;
        case EDGE: draw_by(trees, edge_law(trees, outcome), index, split, outcome, search); break;
        case RESIDUAL: draw_residual(trees, index, split, outcome, search); break;
        default:
            if (split == 0) write(trees, index, outcome, -1);
    }
}

// ---- drafting --------------------------------------------------------------------------------------------------

// Tokens to draw from rows; `DrawCall` of src/gpu/path.rs.
struct Draws {
    const Logit* logits;
    long long stride;
    const int* rows;       // [count]: the row of each law
    const float* scale;    // by law, or null
    const float* least;
    const int* tie;
    const int* first;      // [count + 1]: the first coin of each law
    const double* coins;
    double2* tiles;        // [count][MAX_TILES]
    unsigned* done;        // [count], 0 before and after
    int* tokens;           // one a coin; -1 where the row is no law
    int count, vocab, splits;
    int room;              // tokens that there is room for
};

extern "C" __global__ void __launch_bounds__(DRAW_THREADS) draw_rows(const __grid_constant__ Draws draws) {
    __shared__ Search search;
    const int index = blockIdx.x / draws.splits, split = blockIdx.x % draws.splits, warp = threadIdx.x / 32;
    const Logit* row = draws.logits + (long long)draws.rows[index] * draws.stride;
    const TargetLaw law{view_of(row, draws.scale, draws.least, draws.tie, index, draws.vocab)};
    double2* sums = draws.tiles + (long long)index * MAX_TILES;
    const int tiles = (draws.vocab + TILE - 1) / TILE;
    sum_tiles(law, tiles, split * DRAW_WARPS + warp, draws.splits * DRAW_WARPS, sums);
    if (!finishes(search, draws.done, index, draws.splits)) return;
    const double total = gather(search, sums, tiles, true, false);
    for (int i = max(draws.first[index], 0) + warp; i < min(draws.first[index + 1], draws.room); i += DRAW_WARPS) {
        const int token = total > 0.0 ? find(law, search, tiles, 0, tiles, draws.coins[i] * total) : -1;
        if ((threadIdx.x & 31) == 0) draws.tokens[i] = token;
    }
}

