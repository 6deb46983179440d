// Drafted trees to tokens, from the masses of the ratio cells that `nodes.cu` leaves: the plans of the nodes, the
// walkers' way down, the next token.
//
// plan_nodes   a block a node         the masses of the ratio cells, thinned to the edges that matter
// walk_trees   a block a tree         nests along the paths that may still win; where the winner stops, and by which edge
// draw_next    some blocks a tree     the rows of that one node again: the token
// draw_rows    some blocks a row      tokens of a row by inversion, for drafting
//
// Nothing waits for the host. Tiles of a row are summed by all blocks of a tree, and the last to finish looks for the
// token in the tile where the sum exceeds the coin.

#include "cluster.cuh"
#include "coins.cuh"
#include "row.cuh"
#include "path.cuh"

using namespace draftpick;

// Where the next token comes from.
enum Kind : int {
    REFUSED = 0,
    ENDED = 1,     // the text ends at the node
    TARGET = 2,    // all of a path is kept: the target's law
    EDGE = 3,      // the tokens of a ratio edge of the node, or of ratio 0
    RESIDUAL = 4,  // (P_t q - p)+, of one path
};

// Where a tree's winner stops.
struct Outcome {
    int pair;  // the node's pair of rows, -1 where the text ended
    int kind;
    int path, depth;
    int edge;  // of EDGE: -1 for ratio 0
    int flags;
    double coin, weight;
};

// Why a tree is refused, besides the flags of its rows.
enum TreeFlag : int {
    TREE_TOO_MANY_EDGES = 1 << 16,
    TREE_TOO_MANY_SEGMENTS = 1 << 17,
};

// A batch of trees; `TreeCall` of src/gpu/path.rs.
struct Trees {
    const Logit* draft;
    const Logit* target;
    long long draft_stride, target_stride;
    long long target_count;   // how many target rows there are
    const int* draft_rows;    // the draft row of each pair, or null: pair i has row i
    const int* target_rows;
    const float* draft_scale;
    const float* target_scale;
    const float* draft_least;
    const float* target_least;
    const RowStats* stats;    // of each pair that is an inner node
    const double2* cells;
    const int* nodes;         // [trees][paths][length + 1]: the pair of each node of a path, -1 where the text has ended
    const int* tokens;        // [trees][paths][length]
    const int* lengths;       // [trees][paths]; -1 for no path
    const int* paths_of;      // [pairs]: the number of paths of the pair's tree; 0 for no inner node
    const unsigned long long* seeds;
    const unsigned long long* starts;
    NodePlan* plans;          // [pairs]
    Outcome* outcomes;        // [trees]
    double* weights;          // [trees][length + 1]: P_t of trees of one path
    int* decisions;           // [trees][length + 1]
    double2* tiles;           // [trees][MAX_TILES]
    unsigned* done;           // [trees], 0 before and after
    int* output;              // [trees][length + 1]: accepted tokens, the next one, -1 after it
    int* accepted;            // [trees]: the number of accepted tokens; -1 if the tree is refused
    int* winners;             // [trees]: the path that the accepted tokens are of
    int* flags;               // [trees]
    double loss;
    float per_width;
    int vocab, trees, paths, length, splits;
    int pairs;
    int unused;
};

#define NAN_F32 __int_as_float(0x7fffffff)
#define MAX_TILES 2048  // of 128 tokens, in f32: 262,144
#define DRAW_THREADS 256
#define DRAW_WARPS (DRAW_THREADS / 32)

// ---- nodes -----------------------------------------------------------------------------------------------------

// The cells of a pair as the grid for `paths` drafts has them: those below its lowest edge are one.
struct NodeGrid {
    EdgeGrid edges;
    int first;  // the grid number of cell 1
    int skip;   // cells of the pair that are cell 0 here, but for one
};

// The cells of a pair, the lowest `skip` of them with the next one.
__device__ __forceinline__ NodeGrid cells_of(const RowStats& row, float per_width, int skip) {
    const double offset = row.draft_log_sum - row.target_log_sum, width = 1.0 / (double)per_width;
    NodeGrid grid;
    grid.skip = skip;
    grid.first = row.first + skip;
    grid.edges.width = width;
    grid.edges.first = 0.0;
    grid.edges.anchor = grid.edges.log_lowest = ((double)grid.first - 0.5) * width - offset;
    grid.edges.per_width = 1.0 / width;
    grid.edges.len = row.cells - skip;
    return grid;
}

__device__ __forceinline__ NodeGrid grid_of(const RowStats& row, float per_width, int paths) {
    const double offset = row.draft_log_sum - row.target_log_sum;
    const double lowest = floor((-log((double)paths) - HEADROOM + offset) * (double)per_width + 0.5);
    return cells_of(row, per_width, min(max((int)fmin(fmax(lowest, -2e6), 2e6) - row.first, 0), row.cells - 2));
}

__device__ __forceinline__ Mass mass_at(const double2* cells, int cell) {
    const double2 found = cells[cell];
    return Mass{found.x, found.y};
}

#define PLAN_THREADS 128

// One warp plans; the others help it to bring the cells.
extern "C" __global__ void __launch_bounds__(PLAN_THREADS) plan_nodes(const __grid_constant__ Trees trees) {
    __shared__ Mass classes[MAX_CELLS];
    __shared__ double prefix[MAX_CELLS];
    __shared__ Mass merged[MAX_EDGES];
    const Warp warp;
    const int pair = blockIdx.x;
    const int paths = trees.paths_of[pair];
    // One path needs no layout.
    if (paths < 2) return;
    NodePlan& plan = trees.plans[pair];
    const RowStats row = trees.stats[pair];
    if (row.flags != 0 || row.cells < 3) {
        if (threadIdx.x == 0) plan.status = OK;
        return;
    }
    const double2* cells = trees.cells + (long long)pair * MAX_CELLS;
    const NodeGrid grid = grid_of(row, trees.per_width, paths);
#pragma unroll
    for (int i = 0; i < (MAX_CELLS + PLAN_THREADS - 1) / PLAN_THREADS; i++) {
        const int c = i * PLAN_THREADS + (int)threadIdx.x;
        if (c < grid.edges.len) classes[c] = mass_at(cells, c + grid.skip);
    }
    __syncthreads();
    if (threadIdx.x >= 32) return;
    if (grid.skip > 0) {
        Mass lowest{0.0, 0.0};
        for (int c = warp.lane(); c < grid.skip; c += 32) {
            const Mass here = mass_at(cells, c);
            lowest.p += here.p;
            lowest.q += here.q;
        }
        lowest = Mass{warp.sum(lowest.p), warp.sum(lowest.q)};
        if (warp.lane() == 0) classes[0] = Mass{classes[0].p + lowest.p, classes[0].q + lowest.q};
        warp.sync();
    }
    plan_node(warp, grid.edges, classes, trees.loss, prefix, merged, plan);
}

// ---- trees -----------------------------------------------------------------------------------------------------

__device__ __forceinline__ float shaped(float x, const float* scale, const float* least, int pair) {
    if (scale) x *= scale[pair];
    if (least && x < least[pair]) x = -INF;
    return x;
}

__device__ __forceinline__ const Logit* row_at(const Logit* base, long long stride, const int* rows, int pair) {
    return base + (long long)(rows ? rows[pair] : pair) * stride;
}

// The masses of a token at a pair.
__device__ __forceinline__ Mass masses_of(const Trees& trees, const RowStats& row, int pair, int token) {
    const float d = widen(row_at(trees.draft, trees.draft_stride, trees.draft_rows, pair)[token]);
    const float t = widen(row_at(trees.target, trees.target_stride, trees.target_rows, pair)[token]);
    return Mass{exp((double)shaped(d, trees.draft_scale, trees.draft_least, pair) - row.draft_log_sum),
                exp((double)shaped(t, trees.target_scale, trees.target_least, pair) - row.target_log_sum)};
}

// A tree's coins and paths.
struct Tree {
    const int* nodes;
    const int* tokens;
    const int* lengths;
    unsigned long long seed, start;

    __device__ __forceinline__ double coin(int purpose, int depth, int path) const {
        return philox_coin(seed, start, (unsigned)purpose, (unsigned)depth, (unsigned)path);
    }
};

__device__ __forceinline__ Tree tree_at(const Trees& trees, int tree) {
    const long long paths = (long long)tree * trees.paths;
    return Tree{trees.nodes + paths * (trees.length + 1), trees.tokens + paths * trees.length, trees.lengths + paths,
                trees.seeds[tree], trees.starts[tree]};
}

#define NODES (MAX_LENGTH + 1)

// What the warps of a tree share.
struct TreeRoom {
    Walkers walkers;
    unsigned short steps[MAX_PATHS * MAX_LENGTH];
    int nodes[MAX_PATHS * (MAX_LENGTH + 1)];
    // Of a tree of one path: the masses of its tokens, and what the cells tell.
    Mass drafted[MAX_LENGTH];
    double weights[MAX_LENGTH + 1];
    int decisions[MAX_LENGTH + 1];
    int flags;
};

// Block verification of a tree's only path.
__device__ __noinline__ void walk_chain(const Trees& trees, const Tree& tree, int index, TreeRoom& room, Outcome& outcome) {
    const Warp warp;
    const int length = tree.lengths[0];
    if (threadIdx.x == 0) {
        room.weights[0] = 1.0;
        for (int t = 0; t < length; t++) {
            room.weights[t + 1] = accept_probability(room.weights[t] * room.drafted[t].q, room.drafted[t].p, 1e-6);
        }
    }
    __syncthreads();
    for (int t = threadIdx.x / 32; t < length; t += blockDim.x / 32) {
        const int pair = tree.nodes[t];
        const RowStats row = trees.stats[pair];
        const double2* cells = trees.cells + (long long)pair * MAX_CELLS;
        const double weight = room.weights[t];
        const EdgeGrid grid = cells_of(row, trees.per_width, 0).edges;
        const Bounds bounds = residual_bounds(warp, grid, [&](int c) { return mass_at(cells, c); }, weight);
        const Decision decision = keeps(bounds, weight, tree.coin(COIN_ACCEPT, t, 0));
        if (warp.lane() == 0) room.decisions[t] = decision;
    }
    __syncthreads();
    const long long at = (long long)index * (trees.length + 1);
    for (int t = threadIdx.x; t < length; t += blockDim.x) {
        trees.weights[at + t] = room.weights[t];
        trees.decisions[at + t] = room.decisions[t];
    }
    if (threadIdx.x != 0) return;
    outcome.path = 0;
    if (tree.coin(COIN_ACCEPT, length, 0) < room.weights[length]) {
        outcome.depth = length;
        outcome.pair = tree.nodes[length];
        outcome.kind = outcome.pair >= 0 ? TARGET : ENDED;
        outcome.coin = tree.coin(COIN_RESIDUAL, length, 0);
        return;
    }
    int t = length - 1;
    while (t > 0 && room.decisions[t] == NO) t -= 1;
    outcome.depth = t;
    outcome.pair = tree.nodes[t];
    outcome.kind = RESIDUAL;
    outcome.coin = tree.coin(COIN_RESIDUAL, t, 0);
    outcome.weight = room.weights[t];
}

// The path coupling.
__device__ __noinline__ void walk_paths(const Trees& trees, const Tree& tree, int paths, int longest, TreeRoom& room, Nest* nests,
                           Outcome& outcome) {
    const Warp warp;
    Walkers& walkers = room.walkers;
    const int warps = blockDim.x / 32, thread = threadIdx.x;
    const Drafts n = drafts(paths);
    for (int depth = 0; depth < longest; depth++) {
        const unsigned alive = walkers.alive;
        const bool one = (alive & (alive - 1)) == 0;
        int rank = 0;
        for (int w = 0; w < trees.paths; w++) {
            if (!walkers.steps(w, depth) || walkers.leader[w] != w) continue;
            if (rank++ % warps != thread / 32) continue;
            descend(warp, trees.plans[room.nodes[w * NODES + depth]], w, depth, n, room.steps, MAX_LENGTH,
                    tree.coin(COIN_ACCEPT, depth, 0), tree.coin(COIN_RESIDUAL, depth, 0),
                    one && depth + 1 == walkers.length[w], nests[thread / 32], walkers);
        }
        __syncthreads();
        if (walkers.status != OK || rank == 0) break;
        if (one) continue;
        unsigned after = 0;
        if (thread < 32) {
            after = __ballot_sync(~0u, thread < MAX_PATHS && (alive >> thread & 1u) && may_win(walkers, thread));
        }
        __syncthreads();
        if (thread == 0) walkers.alive = after;
        __syncthreads();
        int leader = thread;
        if (thread < trees.paths && walkers.steps(thread, depth + 1)) {
            leader = leader_of(walkers, thread, depth, room.nodes, NODES);
        }
        __syncthreads();
        if (thread < trees.paths) walkers.leader[thread] = leader;
        __syncthreads();
    }
    if (thread != 0) return;
    if (walkers.status != OK) {
        outcome.flags = TREE_TOO_MANY_SEGMENTS;
        return;
    }
    const int winner = winner_of(walkers, [&](int w) { return tree.coin(COIN_LABEL, longest, w); });
    const int length = walkers.length[winner];
    outcome.path = winner;
    if (tree.coin(COIN_ACCEPT, length, 0) < walkers.weight[winner]) {
        outcome.depth = length;
        outcome.pair = room.nodes[winner * NODES + length];
        outcome.kind = outcome.pair >= 0 ? TARGET : ENDED;
        outcome.coin = tree.coin(COIN_RESIDUAL, length, 0);
        return;
    }
    const Stop stop = walkers.stop[winner];
    if (stop.depth < 0) {
        outcome.flags = ROW_NO_RESIDUAL;
        return;
    }
    outcome.depth = stop.depth;
    outcome.pair = room.nodes[winner * NODES + stop.depth];
    outcome.kind = EDGE;
    outcome.edge = stop.choice.edge;
    outcome.coin = stop.choice.coin;
}

// Dynamic shared memory: a TreeRoom and a Nest for each warp.
extern "C" __global__ void walk_trees(const __grid_constant__ Trees trees) {
    extern __shared__ __align__(16) char shared[];
    TreeRoom& room = *reinterpret_cast<TreeRoom*>(shared);
    Nest* nests = reinterpret_cast<Nest*>(shared + (sizeof(TreeRoom) + 15) / 16 * 16);
    const int index = blockIdx.x, thread = threadIdx.x;
    const Tree tree = tree_at(trees, index);
    if (thread < MAX_PATHS) room.walkers.start(thread, thread < trees.paths ? min(max(tree.lengths[thread], 0), trees.length) : 0);
    if (thread == 0) {
        unsigned alive = 0;
        int flags = 0;
        for (int w = 0; w < trees.paths; w++) {
            alive |= tree.lengths[w] >= 0 ? 1u << w : 0u;
            if (tree.lengths[w] > trees.length) flags = ROW_NO_SUCH_ROW;
        }
        room.walkers.paths = trees.paths;
        room.walkers.alive = alive;
        room.walkers.status = OK;
        room.flags = alive == 0 ? ROW_NO_SUCH_ROW : flags;
    }
    __syncthreads();
    const int paths = __popc(room.walkers.alive);
    int longest = 0;
    for (int w = 0; w < trees.paths; w++) longest = max(longest, room.walkers.length[w]);
    for (int i = thread; i < trees.paths * (longest + 1); i += blockDim.x) {
        const int path = i / (longest + 1), depth = i % (longest + 1);
        const int pair = tree.nodes[path * (trees.length + 1) + depth];
        room.nodes[path * NODES + depth] = pair;
        // A last node is continued by a row of the target, or the text ends there.
        if (depth != room.walkers.length[path] || tree.lengths[path] < 0 || pair < 0) continue;
        const long long row = pair >= trees.pairs ? -1 : trees.target_rows ? trees.target_rows[pair] : pair;
        if (row < 0 || row >= trees.target_count) atomicOr(&room.flags, ROW_NO_SUCH_ROW);
    }
    // Each drafted token's edge.
    for (int i = thread; i < trees.paths * longest; i += blockDim.x) {
        const int path = i / longest, depth = i % longest;
        if (depth >= room.walkers.length[path]) continue;
        const int pair = tree.nodes[path * (trees.length + 1) + depth], token = tree.tokens[path * trees.length + depth];
        if (pair < 0 || pair >= trees.pairs || trees.paths_of[pair] != paths) {
            atomicOr(&room.flags, ROW_NO_SUCH_ROW);
            continue;
        }
        const RowStats row = trees.stats[pair];
        int flags = row.flags;
        if (paths > 1 && flags == 0 && trees.plans[pair].status != OK) flags |= TREE_TOO_MANY_EDGES;
        if (token < 0 || token >= trees.vocab) flags |= ROW_OUT_OF_VOCABULARY;
        if (flags == 0) {
            const Mass drafted = masses_of(trees, row, pair, token);
            if (!(drafted.p > 0.0)) flags |= ROW_NOT_DRAWN;
            if (paths > 1) {
                const double coin = tree.coin(COIN_EDGE, depth, path);
                room.steps[path * MAX_LENGTH + depth] =
                    (unsigned short)step_of(trees.plans[pair], drafted.p, drafted.q, coin);
            } else {
                room.drafted[depth] = drafted;
            }
        }
        if (flags != 0) atomicOr(&room.flags, flags);
    }
    __syncthreads();
    Outcome outcome{-1, REFUSED, 0, 0, -1, room.flags, 0.0, 1.0};
    if (room.flags == 0 && paths == 1) {
        walk_chain(trees, tree, index, room, outcome);
    } else if (room.flags == 0 && paths > 1) {
        walk_paths(trees, tree, paths, longest, room, nests, outcome);
    }
    if (thread == 0) {
        // Only kinds that are no refusal have a node.
        if (outcome.flags != 0) outcome.kind = REFUSED;
        trees.outcomes[index] = outcome;
    }
}

// The sizes of what the host makes room for.
extern "C" __global__ void path_room(int* out) {
    out[0] = (int)sizeof(NodePlan);
    out[1] = (int)sizeof(Outcome);
    out[2] = ((int)sizeof(TreeRoom) + 15) / 16 * 16;
    out[3] = (int)sizeof(Nest);
    out[4] = MAX_TILES;
}

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

// The logits of a lane's tokens in a tile, as they are in memory.
struct Raw {
    uint4 bits;
};

// A row, and how its logits are shaped.
struct RowView {
    const Logit* logits;
    float scale, least;
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
    __device__ __forceinline__ float shape(float x) const {
        x *= scale;
        return x < least ? -INF : x;
    }
    __device__ __forceinline__ void widened(const Raw& raw, float (&x)[WIDE]) const {
        widen_vector(raw.bits, x);
#pragma unroll
        for (int j = 0; j < WIDE; j++) x[j] = shape(x[j]);
    }
    __device__ __forceinline__ float one(int token) const { return token < vocab ? shape(widen(logits[token])) : -INF; }
};

__device__ __forceinline__ RowView view_of(const Logit* row, const float* scale, const float* least, int pair, int vocab) {
    return RowView{row, scale ? scale[pair] : 1.0f, least ? least[pair] : -INF, vocab, ((unsigned long long)row & 15) == 0};
}

// A law that a token is drawn from, tile by tile: `sum` is a warp's sum over a tile, of one law, or of two of which the
// second follows the first. Those of the target alone are relative to the tile's largest logit, which comes second.
// `mass` is that of one token.
struct TargetLaw {
    RowView row;

    struct Loaded {
        Raw row;
    };
    __device__ __forceinline__ Loaded load(int at) const { return Loaded{row.raw(at)}; }
    __device__ __forceinline__ double2 sum(const Loaded& loaded, int) const {
        float x[WIDE], most = -INF;
        row.widened(loaded.row, x);
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

    struct Loaded {
        Raw draft, target;
    };
    __device__ __forceinline__ Loaded load(int at) const { return Loaded{draft.raw(at), target.raw(at)}; }
    __device__ __forceinline__ Mass mass(float d, float t) const {
        return Mass{(double)exp_from(d, draft_sum), (double)exp_from(t, target_sum)};
    }
};

__device__ __forceinline__ PairView pair_at(const Trees& trees, int pair) {
    const RowStats row = trees.stats[pair];
    return PairView{view_of(row_at(trees.draft, trees.draft_stride, trees.draft_rows, pair), trees.draft_scale,
                            trees.draft_least, pair, trees.vocab),
                    view_of(row_at(trees.target, trees.target_stride, trees.target_rows, pair), trees.target_scale,
                            trees.target_least, pair, trees.vocab),
                    reference(row.draft_log_sum), reference(row.target_log_sum)};
}

// (P_t q - p)+.
struct ResidualLaw {
    PairView rows;
    double weight;

    typedef PairView::Loaded Loaded;
    __device__ __forceinline__ Loaded load(int at) const { return rows.load(at); }
    __device__ __forceinline__ double of(Mass here) const { return fmax(weight * here.q - here.p, 0.0); }
    __device__ __forceinline__ double2 sum(const Loaded& loaded, int) const {
        float d[WIDE], t[WIDE];
        rows.draft.widened(loaded.draft, d);
        rows.target.widened(loaded.target, t);
        double sum = 0.0;
#pragma unroll
        for (int j = 0; j < WIDE; j++) sum += of(rows.mass(d[j], t[j]));
        return make_double2(warp_sum(sum), 0.0);
    }
    __device__ __forceinline__ double mass(int token, int, double) const {
        return of(rows.mass(rows.draft.one(token), rows.target.one(token)));
    }
};

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
    __device__ __forceinline__ int cell(float d, float t) const {
        const float place = fmaxf(__fmul_rn(__fsub_rn(d, t), per_width), -2097152.0f);
        const int number = (int)(__float_as_uint(__fadd_rn(place, 12582912.0f)) - __float_as_uint(12582912.0f));
        return max(0, min(number - first + 1, last));
    }
    // What a token has on the edge as one of class `part`.
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
        float d[WIDE], t[WIDE];
        rows.draft.widened(loaded.draft, d);
        rows.target.widened(loaded.target, t);
        double sums[2] = {0.0, 0.0};
        bool some = false;
#pragma unroll
        for (int j = 0; j < WIDE; j++) {
            const int here = cell(d[j], t[j]);
            const bool below = here >= from[0] && here <= to[0], inside = below || (here >= from[1] && here <= to[1]);
            // Most classes hold few tokens: where no lane has one there is nothing to compute.
            if (!__any_sync(~0u, inside)) continue;
            some = true;
            const double mass = inside ? of(d[j], t[j], below ? 0 : 1) : 0.0;
            sums[0] += below ? mass : 0.0;
            sums[1] += below ? 0.0 : mass;
        }
        if (!some) return make_double2(0.0, 0.0);
        return make_double2(warp_sum(sums[0]), warp_sum(sums[1]));
    }
    __device__ __forceinline__ double mass(int token, int part, double) const {
        const float d = rows.draft.one(token), t = rows.target.one(token);
        const int here = cell(d, t);
        return here >= from[part] && here <= to[part] ? of(d, t, part) : 0.0;
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

// The token at which the running sum exceeds coin*total, or the last of any mass; -1 if none has, or the total is no
// number. One warp.
template <class Law>
__device__ __forceinline__ int find(const Law& law, const Search& search, int tiles, int count, double coin, double total) {
    const Warp warp;
    if (!(total > 0.0)) return -1;
    const double threshold = coin * total;
    // Each lane has neighbouring tiles.
    const int each = (count + 31) / 32, first = warp.lane() * each, end = min(first + each, count);
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
        const int token = find(law, search, tiles, two ? 2 * tiles : tiles, outcome.coin, total);
        if (threadIdx.x == 0) search.token = token;
    }
    __syncthreads();
    if (search.token < 0) {
        outcome.flags = outcome.kind != TARGET ? ROW_NO_RESIDUAL
            : total <= 0.0                     ? ROW_TARGET_ALL_MASKED
                                               : ROW_TARGET_NOT_A_NUMBER;
        outcome.kind = REFUSED;
    }
    write(trees, index, outcome, search.token);
}

// The only path of a tree: where the cells did not settle whether to stop, the sum over the tokens does.
__device__ __noinline__ void draw_residual(const Trees& trees, int index, int split, Outcome outcome, Search& search) {
    double2* sums = trees.tiles + (long long)index * MAX_TILES;
    const int tiles = (trees.vocab + TILE - 1) / TILE, warp = threadIdx.x / 32;
    const Tree tree = tree_at(trees, index);
    const long long at = (long long)index * (trees.length + 1);
    ResidualLaw law{pair_at(trees, outcome.pair), outcome.weight};
    sum_tiles(law, tiles, split * DRAW_WARPS + warp, trees.splits * DRAW_WARPS, sums);
    if (!finishes(search, trees.done, index, trees.splits)) return;
    double total;
    for (;;) {
        total = gather(search, sums, tiles, false, false);
        const int t = outcome.depth;
        const bool stops = trees.decisions[at + t] == YES
            || tree.coin(COIN_ACCEPT, t, 0) < keep_probability(total, outcome.weight);
        if (stops || t == 0) break;
        // Further up, by this block alone.
        int next = t - 1;
        while (next > 0 && trees.decisions[at + next] == NO) next -= 1;
        outcome.depth = next;
        outcome.pair = tree.nodes[next];
        outcome.weight = trees.weights[at + next];
        outcome.coin = tree.coin(COIN_RESIDUAL, next, 0);
        law = ResidualLaw{pair_at(trees, outcome.pair), outcome.weight};
        __syncthreads();
        sum_tiles(law, tiles, warp, DRAW_WARPS, sums);
        __threadfence_block();
        __syncthreads();
    }
    if (warp == 0) {
        const int token = find(law, search, tiles, tiles, outcome.coin, total);
        if (threadIdx.x == 0) search.token = token;
    }
    __syncthreads();
    if (search.token < 0) outcome.kind = REFUSED, outcome.flags = ROW_NO_RESIDUAL;
    write(trees, index, outcome, search.token);
}

extern "C" __global__ void __launch_bounds__(DRAW_THREADS, 2) draw_next(const __grid_constant__ Trees trees) {
    __shared__ Search search;
    const int index = blockIdx.x / trees.splits, split = blockIdx.x % trees.splits;
    const Outcome outcome = trees.outcomes[index];
    switch (outcome.kind) {
        case TARGET: {
            const Logit* row = row_at(trees.target, trees.target_stride, trees.target_rows, outcome.pair);
            const TargetLaw law{view_of(row, trees.target_scale, trees.target_least, outcome.pair, trees.vocab)};
            draw_by(trees, law, index, split, outcome, search);
            break;
        }
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
    const TargetLaw law{view_of(row, draws.scale, draws.least, index, draws.vocab)};
    double2* sums = draws.tiles + (long long)index * MAX_TILES;
    const int tiles = (draws.vocab + TILE - 1) / TILE;
    sum_tiles(law, tiles, split * DRAW_WARPS + warp, draws.splits * DRAW_WARPS, sums);
    if (!finishes(search, draws.done, index, draws.splits)) return;
    const double total = gather(search, sums, tiles, true, false);
    for (int i = max(draws.first[index], 0) + warp; i < min(draws.first[index + 1], draws.room); i += DRAW_WARPS) {
        const int token = find(law, search, tiles, tiles, draws.coins[i], total);
        if ((threadIdx.x & 31) == 0) draws.tokens[i] = token;
    }
}
