// Plans of the nodes of drafted trees, and the path coupling's way down, from the masses of the ratio cells that `nodes.cu`
// leaves.
//
// plan_nodes   a block a node         the masses of the ratio cells, thinned to the edges that matter
// walk_trees   a block a tree         nests along the paths that may still win; where the winner stops, and by which edge
#include "trees.cuh"

#define PLAN_THREADS 128

// One warp plans; the others help it to bring the cells.
extern "C" __global__ void __launch_bounds__(PLAN_THREADS) plan_nodes(const __grid_constant__ Trees trees) {
    __shared__ Mass classes[MAX_CELLS];
    __shared__ double prefix[MAX_CELLS];
    __shared__ Mass merged[MAX_EDGES];
    wait_for_last();
    let_next_start();
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
    const CellCounts* counted = trees.counted + (long long)pair * MAX_CELLS;
    const NodeGrid grid = grid_of(row, trees.per_width, paths);
#pragma unroll
    for (int i = 0; i < (MAX_CELLS + PLAN_THREADS - 1) / PLAN_THREADS; i++) {
        const int c = i * PLAN_THREADS + (int)threadIdx.x;
        if (c < grid.edges.len) classes[c] = mass_at(counted, c + grid.skip, row.cells);
    }
    __syncthreads();
    if (threadIdx.x >= 32) return;
    if (grid.skip > 0) {
        Mass lowest{0.0, 0.0};
        for (int c = warp.lane(); c < grid.skip; c += 32) {
            const Mass here = mass_at(counted, c, row.cells);
            lowest.p += here.p;
            lowest.q += here.q;
        }
        lowest = Mass{warp.sum(lowest.p), warp.sum(lowest.q)};
        if (warp.lane() == 0) classes[0] = Mass{classes[0].p + lowest.p, classes[0].q + lowest.q};
        warp.sync();
    }
    plan_node(warp, grid.edges, classes, trees.loss, prefix, merged, plan);
}

// What the warps of a tree share.
struct TreeRoom {
    TreeRows rows;
    Walkers walkers;
    unsigned short steps[MAX_PATHS * MAX_LENGTH];
};

// The path coupling.
__device__ __forceinline__ void walk_paths(const Trees& trees, const Tree& tree, int paths, int longest, TreeRoom& room,
                                           Nest* nests, Outcome& outcome) {
    const Warp warp;
    Walkers& walkers = room.walkers;
    const int warps = blockDim.x / 32, thread = threadIdx.x;
    const int* nodes = room.rows.nodes;
    const Drafts n = drafts(paths);
    for (int depth = 0; depth < longest; depth++) {
        const unsigned alive = walkers.alive;
        const bool one = (alive & (alive - 1)) == 0;
        int rank = 0;
        for (int w = 0; w < trees.paths; w++) {
            if (!walkers.steps(w, depth) || walkers.leader[w] != w) continue;
            if (rank++ % warps != thread / 32) continue;
            descend(warp, trees.plans[nodes[w * NODES + depth]], w, depth, n, room.steps, MAX_LENGTH,
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
            leader = leader_of(walkers, thread, depth, nodes, NODES);
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
        outcome.pair = nodes[winner * NODES + length];
        outcome.kind = outcome.pair >= 0 ? TARGET : ENDED;
        outcome.coin = tree.coin(COIN_RESIDUAL, length, 0);
        return;
    }
    const Stop stop = walkers.stop[winner];
    if (stop.depth < 0) {
        // Rounding has left no residual, also not at the root: `from_target` of src/path/outcome.rs.
        outcome.depth = 0;
        outcome.pair = nodes[winner * NODES];
        outcome.kind = TARGET;
        outcome.coin = tree.coin(COIN_RESIDUAL, 0, 0);
        return;
    }
    outcome.depth = stop.depth;
    outcome.pair = nodes[winner * NODES + stop.depth];
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
    wait_for_last();
    let_next_start();
    const Tree tree = tree_at(trees, index);
    const int longest = open_tree(trees, tree, room.rows);
    const int paths = __popc(room.rows.paths);
    Outcome outcome = no_outcome(room.rows.flags);
    if (outcome.flags == 0 && paths == 1) {
        walk_chain(trees, tree, index, room.rows, outcome);
    } else if (outcome.flags == 0) {
        if (thread < MAX_PATHS) room.walkers.start(thread, room.rows.lengths[thread]);
        if (thread == 0) {
            room.walkers.paths = trees.paths;
            room.walkers.alive = room.rows.paths;
            room.walkers.status = OK;
        }
        // Each drafted token's edge.
        for (int i = thread; i < trees.paths * longest; i += blockDim.x) {
            const int path = i / longest, depth = i % longest;
            if (depth >= room.rows.lengths[path]) continue;
            const Mass drafted = room.rows.drafted[path * MAX_LENGTH + depth];
            const NodePlan& plan = trees.plans[room.rows.nodes[path * NODES + depth]];
            const double coin = tree.coin(COIN_EDGE, depth, path);
            room.steps[path * MAX_LENGTH + depth] = (unsigned short)step_of(plan, drafted.p, drafted.q, coin);
        }
        __syncthreads();
        walk_paths(trees, tree, paths, longest, room, nests, outcome);
    }
    leave(trees, index, outcome);
}

// The sizes of what the host makes room for.
extern "C" __global__ void path_room(int* out) {
    out[0] = (int)sizeof(NodePlan);
    out[1] = (int)sizeof(Outcome);
    out[2] = ((int)sizeof(TreeRoom) + 15) / 16 * 16;
    out[3] = (int)sizeof(Nest);
    out[4] = MAX_TILES;
}
