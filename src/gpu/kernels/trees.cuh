// A batch of drafted trees: what all kernels on trees are given, and how a tree begins.
#pragma once
#include "cluster.cuh"
#include "coins.cuh"
#include "row.cuh"
#include "spread.cuh"

using namespace draftpick;

// Where the next token comes from.
enum Kind : int {
    REFUSED = 0,
    ENDED = 1,     // the text ends at the node
    TARGET = 2,    // all of a path is kept: the target's law
    EDGE = 3,      // the tokens of a ratio edge of the node, or of ratio 0
    RESIDUAL = 4,  // what is left of the target's law at a node of the winner's path, `decisions` says how
};

// Where a tree's winner stops.
struct Outcome {
    int pair;  // the node's pair of rows, -1 where the text ended
    int kind;
    int path, depth;
    int edge;  // of EDGE: -1 for ratio 0
    int flags;
    double coin;
};

// Of a decision: what is left of the target's law is `left_of` the classes, and else (P_t q - p)+.
#define BY_CLASS 4

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
    const int* draft_tie;
    const int* target_tie;
    const RowStats* stats;    // of each pair that is an inner node
    const CellCounts* counted;  // [pairs][MAX_CELLS]
    const int* nodes;         // [trees][paths][length + 1]: the pair of each node of a path, -1 where the text has ended
    const int* tokens;        // [trees][paths][length]
    const int* lengths;       // [trees][paths]; -1 for no path
    const int* paths_of;      // [pairs]: the number of paths of the pair's tree; 0 for no inner node
    const unsigned long long* seeds;
    const unsigned long long* starts;
    NodePlan* plans;          // [pairs]
    Label* labels;            // [trees][2][paths], of the spread coupling
    Outcome* outcomes;        // [trees]
    double* weights;          // [trees][length + 1]: P_t along the winner's path
    int* decisions;           // [trees][length + 1]: whether it stops there
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

#define MAX_TILES 2048  // of 128 tokens, in f32: 262,144

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

// The masses of a cell of a pair with so many.
__device__ __forceinline__ Mass mass_at(const CellCounts* counted, int cell, int cells) {
    const double unit = 1.0 / (1ll << -COMMON_EXPONENT), last = 1.0 / (1ll << -COMMON_LAST_EXPONENT);
    const ulonglong2 both = reinterpret_cast<const ulonglong2*>(counted)[cell];
    return Mass{(double)both.x * unit, (double)both.y * (cell + 1 == cells ? last : unit)};
}

// ---- trees -----------------------------------------------------------------------------------------------------

__device__ __forceinline__ float shaped(float x, const float* scale, const float* least, const int* tie, int pair, int token) {
    if (scale) x *= scale[pair];
    if (least && (x < least[pair] || (tie && token < tie[pair] && x == least[pair]))) x = -INF;
    return x;
}

__device__ __forceinline__ const Logit* row_at(const Logit* base, long long stride, const int* rows, int pair) {
    return base + (long long)(rows ? rows[pair] : pair) * stride;
}

// The masses of a token at a pair.
__device__ __forceinline__ Mass masses_of(const Trees& trees, const RowStats& row, int pair, int token) {
    const float d = widen(row_at(trees.draft, trees.draft_stride, trees.draft_rows, pair)[token]);
    const float t = widen(row_at(trees.target, trees.target_stride, trees.target_rows, pair)[token]);
    return Mass{exp((double)shaped(d, trees.draft_scale, trees.draft_least, trees.draft_tie, pair, token) - row.draft_log_sum),
                exp((double)shaped(t, trees.target_scale, trees.target_least, trees.target_tie, pair, token) - row.target_log_sum)};
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

// What the warps of a tree know of it.
struct TreeRows {
    int nodes[MAX_PATHS * NODES];
    Mass drafted[MAX_PATHS * MAX_LENGTH];  // the masses of the tokens
    int lengths[MAX_PATHS];
    unsigned paths;  // those that there are
    int flags;
    // Of the winner: P_t, and whether it stops there as far as the cells tell.
    double weights[NODES];
    int decisions[NODES];
};

// Reads what a tree says of itself; all threads of a block. Returns the tokens of its longest path.
__device__ __forceinline__ int open_tree(const Trees& trees, const Tree& tree, TreeRows& rows) {
    const int thread = threadIdx.x;
    if (thread < MAX_PATHS) rows.lengths[thread] = thread < trees.paths ? min(max(tree.lengths[thread], 0), trees.length) : 0;
    if (thread == 0) {
        unsigned paths = 0;
        int flags = 0;
        for (int w = 0; w < trees.paths; w++) {
            paths |= tree.lengths[w] >= 0 ? 1u << w : 0u;
            if (tree.lengths[w] > trees.length) flags = ROW_NO_SUCH_ROW;
        }
        rows.paths = paths;
        rows.flags = paths == 0 ? ROW_NO_SUCH_ROW : flags;
    }
    __syncthreads();
    const int paths = __popc(rows.paths);
    int longest = 0;
    for (int w = 0; w < trees.paths; w++) longest = max(longest, rows.lengths[w]);
    for (int i = thread; i < trees.paths * (longest + 1); i += blockDim.x) {
        const int path = i / (longest + 1), depth = i % (longest + 1);
        const int pair = tree.nodes[path * (trees.length + 1) + depth];
        rows.nodes[path * NODES + depth] = pair;
        // A last node is continued by a row of the target, or the text ends there.
        if (depth != rows.lengths[path] || tree.lengths[path] < 0 || pair < 0) continue;
        const long long row = pair >= trees.pairs ? -1 : trees.target_rows ? trees.target_rows[pair] : pair;
        if (row < 0 || row >= trees.target_count) atomicOr(&rows.flags, ROW_NO_SUCH_ROW);
    }
    for (int i = thread; i < trees.paths * longest; i += blockDim.x) {
        const int path = i / longest, depth = i % longest;
        if (depth >= rows.lengths[path]) continue;
        const int pair = tree.nodes[path * (trees.length + 1) + depth], token = tree.tokens[path * trees.length + depth];
        if (pair < 0 || pair >= trees.pairs || trees.paths_of[pair] != paths) {
            atomicOr(&rows.flags, ROW_NO_SUCH_ROW);
            continue;
        }
        const RowStats row = trees.stats[pair];
        int flags = row.flags;
        if (paths > 1 && flags == 0 && trees.plans[pair].status != OK) flags |= TREE_TOO_MANY_EDGES;
        if (token < 0 || token >= trees.vocab) flags |= ROW_OUT_OF_VOCABULARY;
        if (flags == 0) {
            const Mass drafted = masses_of(trees, row, pair, token);
            if (!(drafted.p > 0.0)) flags |= ROW_NOT_DRAWN;
            rows.drafted[path * MAX_LENGTH + depth] = drafted;
        }
        if (flags != 0) atomicOr(&rows.flags, flags);
    }
    __syncthreads();
    return longest;
}

// Whether a path is kept down to a node of which only the masses of the cells are known; one warp.
__device__ __forceinline__ Decision decided_by_cells(const Trees& trees, int pair, double weight, double coin) {
    const CellCounts* counted = trees.counted + (long long)pair * MAX_CELLS;
    const EdgeGrid grid = cells_of(trees.stats[pair], trees.per_width, 0).edges;
    const Bounds bounds = residual_bounds(Warp{}, grid, [&](int c) { return mass_at(counted, c, grid.len); }, weight);
    return keeps(bounds, weight, coin);
}

// Where a path stops whose weights and decisions are known; all threads of a block, the first one writes the outcome.
__device__ __forceinline__ void stop_on(const Trees& trees, const Tree& tree, int index, int path, const TreeRows& rows,
                                        Outcome& outcome) {
    const int length = rows.lengths[path];
    const long long at = (long long)index * (trees.length + 1);
    for (int t = threadIdx.x; t < length; t += blockDim.x) {
        trees.weights[at + t] = rows.weights[t];
        trees.decisions[at + t] = rows.decisions[t];
    }
    if (threadIdx.x != 0) return;
    int t = length;
    outcome.path = path;
    if (tree.coin(COIN_ACCEPT, length, 0) < rows.weights[length]) {
        outcome.kind = rows.nodes[path * NODES + length] >= 0 ? TARGET : ENDED;
    } else {
        t = length - 1;
        while (t > 0 && (rows.decisions[t] & ~BY_CLASS) == NO) t -= 1;
        outcome.kind = RESIDUAL;
    }
    outcome.depth = t;
    outcome.pair = rows.nodes[path * NODES + t];
    outcome.coin = tree.coin(COIN_RESIDUAL, t, 0);
}

// Block verification of a tree's only path.
__device__ __forceinline__ void walk_chain(const Trees& trees, const Tree& tree, int index, TreeRows& rows, Outcome& outcome) {
    const int path = __ffs((int)rows.paths) - 1, length = rows.lengths[path];
    if (threadIdx.x == 0) {
        rows.weights[0] = 1.0;
        for (int t = 0; t < length; t++) {
            const Mass token = rows.drafted[path * MAX_LENGTH + t];
            rows.weights[t + 1] = accept_probability(rows.weights[t] * token.q, token.p, 1e-6);
        }
    }
    __syncthreads();
    for (int t = threadIdx.x / 32; t < length; t += blockDim.x / 32) {
        const Decision decision =
            decided_by_cells(trees, rows.nodes[path * NODES + t], rows.weights[t], tree.coin(COIN_ACCEPT, t, 0));
        if ((threadIdx.x & 31) == 0) rows.decisions[t] = decision;
    }
    __syncthreads();
    stop_on(trees, tree, index, path, rows, outcome);
}

// What a tree begins with and ends with.
__device__ __forceinline__ Outcome no_outcome(int flags) { return Outcome{-1, REFUSED, 0, 0, -1, flags, 0.0}; }

__device__ __forceinline__ void leave(const Trees& trees, int index, Outcome outcome) {
    if (threadIdx.x != 0) return;
    // Only kinds that are no refusal have a node.
    if (outcome.flags != 0) outcome.kind = REFUSED;
    trees.outcomes[index] = outcome;
}
