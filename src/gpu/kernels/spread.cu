// The spread coupling's way down drafted trees, from the plans that `path.cu` makes of their nodes.
//
// walk_spread   a block a tree        level by level: each node laid out by a warp, then each of its children's laws of
//                                     labels by one; where the winner stops
#include "trees.cuh"

// What the warps of a tree share.
struct SpreadTree {
    TreeRows rows;
    unsigned alive;
    int status;
    // The first path before the same node, and the first after it.
    int leader[MAX_PATHS], child[MAX_PATHS];
    // Where labels tell no more apart, as a depth.
    int settled[MAX_PATHS];
    // The law of labels of the node before which a leader is, by even and odd depths.
    LabelView laws[2][MAX_PATHS];
    // The ends of each path's law of labels, and, once that is the last one, its label.
    double bottom[MAX_PATHS], top[MAX_PATHS], label[MAX_PATHS];
    double weights[MAX_PATHS * NODES];  // P_t
    TokenItems items[MAX_PATHS * MAX_LENGTH];
};

__device__ __forceinline__ void walk(const Trees& trees, const Tree& tree, int index, int longest, SpreadTree& room,
                                     Spread* spreads, SpreadRoom* rooms, Piece* few, Outcome& outcome) {
    const Warp warp;
    const TreeRows& rows = room.rows;
    const int thread = threadIdx.x, own = thread / 32, warps = blockDim.x / 32, lane = warp.lane();
    const Drafts n = drafts(__popc(rows.paths));
    // Of each path by even and odd depths; those of few pieces are in shared memory.
    Label* labels = trees.labels + (long long)index * 2 * trees.paths;
    const int first = __ffs((int)rows.paths) - 1;
    if (thread < MAX_PATHS) {
        room.leader[thread] = first;
        room.settled[thread] = NODES;
        room.bottom[thread] = 0.0;
        room.top[thread] = 1.0;
        room.weights[thread * NODES] = 1.0;
        if (rows.lengths[thread] == 0) room.label[thread] = tree.coin(COIN_LABEL, longest, thread);
    }
    // The items of all drafted tokens at once: the way down waits for each of them.
    for (int i = thread; i < trees.paths * longest; i += blockDim.x) {
        const int path = i / longest, depth = i % longest;
        if (depth >= rows.lengths[path]) continue;
        const Mass token = rows.drafted[path * MAX_LENGTH + depth];
        room.items[path * MAX_LENGTH + depth] = items_of_token(trees.plans[rows.nodes[path * NODES + depth]], token.p, token.q);
    }
    if (thread == 0) {
        room.alive = rows.paths;
        room.status = OK;
        room.laws[0][first] = all_labels(few + first * FEW_PIECES);
    }
    __syncthreads();
    for (int depth = 0; depth < longest; depth++) {
        const unsigned alive = room.alive;
        unsigned steps = 0;
        for (int w = 0; w < trees.paths; w++) {
            if ((alive >> w & 1u) && depth < rows.lengths[w] && room.settled[w] > depth) steps |= 1u << w;
        }
        if (steps == 0) break;
        int rank = 0;
        for (int w = 0; w < trees.paths; w++) {
            if (!(steps >> w & 1u) || room.leader[w] != w || rank++ % warps != own) continue;
            NodePlan& plan = trees.plans[rows.nodes[w * NODES + depth]];
            spread_out(warp, room.laws[depth & 1][w], plan.masses, plan.count, room.weights[w * NODES + depth], n,
                       rooms[own].laying, spreads[w], plan.gains);
        }
        if (thread < trees.paths) {
            int child = thread;
            for (int w = thread - 1; w >= 0; w--) {
                const bool same = (steps >> w & 1u) && room.leader[w] == room.leader[thread]
                    && tree.tokens[w * trees.length + depth] == tree.tokens[thread * trees.length + depth];
                if (same) child = w;
            }
            room.child[thread] = child;
        }
        __syncthreads();
        rank = 0;
        for (int w = 0; w < trees.paths; w++) {
            if (!(steps >> w & 1u) || room.child[w] != w || rank++ % warps != own) continue;
            const int leader = room.leader[w];
            const Mass token = rows.drafted[w * MAX_LENGTH + depth];
            const TokenItems items = room.items[w * MAX_LENGTH + depth];
            const double weight = accept_probability(room.weights[w * NODES + depth] * token.q, selected(items, spreads[leader].gains), 1e-6);
            const int to = (depth + 1 & 1) * trees.paths + w;
            const LabelView after = label_after(warp, room.laws[depth & 1][leader], spreads[leader], items, token.p, rooms[own].parting,
                                                few + to * FEW_PIECES, labels[to]);
            if (lane == 0) room.laws[depth + 1 & 1][w] = after;
            if (after.count == 0) {
                if (lane == 0) room.status = TOO_MANY_SEGMENTS;
                continue;
            }
            if (lane < trees.paths && (steps >> lane & 1u) && room.child[lane] == w) {
                const bool settled = weight < LEAST_WEIGHT;
                room.weights[lane * NODES + depth + 1] = weight;
                room.bottom[lane] = after.pieces[0].segment.lo;
                room.top[lane] = highest_label(after);
                if (settled) room.settled[lane] = depth + 1;
                if (settled || depth + 1 == rows.lengths[lane]) {
                    room.label[lane] = label_at(after, tree.coin(COIN_LABEL, longest, lane));
                }
            }
        }
        __syncthreads();
        if (room.status != OK) break;
        // A path whose highest label is below another one's lowest has lost.
        double highest = -1.0;
        for (int w = 0; w < trees.paths; w++) {
            if (alive >> w & 1u) highest = larger(highest, room.bottom[w]);
        }
        if (thread < 32) {
            const unsigned after =
                __ballot_sync(~0u, thread < MAX_PATHS && (alive >> thread & 1u) && room.top[thread] >= highest);
            if (thread == 0) room.alive = after;
        }
        if (thread < trees.paths) room.leader[thread] = room.child[thread];
        __syncthreads();
    }
    if (room.status != OK) {
        outcome.flags = TREE_TOO_MANY_SEGMENTS;
        return;
    }
    int winner = -1;
    for (int w = 0; w < trees.paths; w++) {
        if ((room.alive >> w & 1u) && (winner < 0 || room.label[w] > room.label[winner])) winner = w;
    }
    const int length = rows.lengths[winner], settled = room.settled[winner];
    if (thread == 0) {
        for (int t = 0; t <= length; t++) {
            double weight = 1.0;
            if (t > 0 && t > settled) {
                const Mass token = rows.drafted[winner * MAX_LENGTH + t - 1];
                weight = accept_probability(rows.weights[t - 1] * token.q, token.p, 1e-6);
            } else {
                weight = room.weights[winner * NODES + t];
            }
            room.rows.weights[t] = weight;
        }
    }
    __syncthreads();
    for (int t = own; t < length; t += warps) {
        const int pair = rows.nodes[winner * NODES + t];
        const double weight = rows.weights[t], coin = tree.coin(COIN_ACCEPT, t, 0);
        int decision;
        if (t < settled) {
            const NodePlan& plan = trees.plans[pair];
            decision = BY_CLASS | keeps(total_of(left_of(warp, plan, plan.gains, weight)), weight, coin);
        } else {
            decision = decided_by_cells(trees, pair, weight, coin);
        }
        if (lane == 0) room.rows.decisions[t] = decision;
    }
    __syncthreads();
    stop_on(trees, tree, index, winner, rows, outcome);
}

// Dynamic shared memory: a SpreadTree, a Spread and two laws of few pieces for each path, a SpreadRoom for each warp.
extern "C" __global__ void walk_spread(const __grid_constant__ Trees trees) {
    extern __shared__ __align__(16) char shared[];
    SpreadTree& room = *reinterpret_cast<SpreadTree*>(shared);
    Spread* spreads = reinterpret_cast<Spread*>(shared + (sizeof(SpreadTree) + 15) / 16 * 16);
    Piece* few = reinterpret_cast<Piece*>(spreads + trees.paths);
    SpreadRoom* rooms = reinterpret_cast<SpreadRoom*>(few + 2 * trees.paths * FEW_PIECES);
    const int index = blockIdx.x;
    wait_for_last();
    let_next_start();
    const Tree tree = tree_at(trees, index);
    const int longest = open_tree(trees, tree, room.rows);
    Outcome outcome = no_outcome(room.rows.flags);
    if (outcome.flags == 0 && __popc(room.rows.paths) == 1) {
        walk_chain(trees, tree, index, room.rows, outcome);
    } else if (outcome.flags == 0) {
        walk(trees, tree, index, longest, room, spreads, rooms, few, outcome);
    }
    leave(trees, index, outcome);
}

// The sizes of what the host makes room for.
extern "C" __global__ void spread_room(int* out) {
    out[0] = ((int)sizeof(SpreadTree) + 15) / 16 * 16;
    out[1] = (int)(sizeof(Spread) + 2 * FEW_PIECES * sizeof(Piece));
    out[2] = (int)sizeof(SpreadRoom);
    out[3] = (int)sizeof(Label);
}
