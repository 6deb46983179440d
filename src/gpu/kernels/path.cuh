// The path coupling and block verification of one drafted tree: `verify` of src/path/coupling.rs and src/path/block.rs,
// from the masses of the ratio cells of its nodes.
//
// A tree is K paths of node numbers; paths that agree so far have the same nodes. A walker is a path on its way down;
// walkers in the same region before the same node are a group, and share a nest. What is decided at a nest does not
// depend on which of them wins: its coins are those of its depth, so that `P_t`, the coin of `h_t` and the edge that the
// next token would be drawn from are settled as soon as the nest is laid out, and nothing of it has to be kept but the
// regions of its walkers.

#pragma once

#include "plan.cuh"

namespace draftpick {

constexpr int MAX_PATHS = 16;
constexpr int MAX_LENGTH = 32;
// The ratio edges of a node. `thinned` at the loss of `path::DEFAULT_LOSS` leaves at most 88 of them.
constexpr int MAX_EDGES = 96;
// The segments of a region, a power of 2, and of the free part of a block. Millions of random nests had 15 at most.
constexpr int MAX_REGION = 64;
constexpr int MAX_FREE = MAX_REGION + MAX_EDGES;

// The two laws at an inner node as virtual tokens on ratio edges: `Edged`.
struct NodePlan {
    int status;
    int len, count, cells;
    double log_lowest, per_width, undrafted;
    double inverses[MAX_EDGES];
    Mass masses[MAX_EDGES];
    // The masses of the classes.
    Mass classes[MAX_EDGES];
    // Of the spread coupling, once the node is laid out: how many times as often as it is drafted an item is selected.
    double gains[MAX_EDGES];
    unsigned short kept[MAX_EDGES], edge_of[MAX_EDGES], item_of[MAX_EDGES];

    DRAFTPICK_DEVICE Edges edges() const { return Edges{log_lowest, per_width, cells, len, kept, inverses}; }
};

// The plan of a node, from the masses of its cells. `prefix` is scratch for as many numbers as there are cells, `merged`
// for MAX_EDGES masses.
template <class Team>
DRAFTPICK_DEVICE void plan_node(
    const Team& team, const EdgeGrid& grid, const Mass* classes, double loss, double* prefix, Mass* merged, NodePlan& plan
) {
    Edges edges{};
    const EdgeRoom room{plan.kept, plan.inverses, merged, MAX_EDGES};
    const Status status = thinned(team, grid, classes, loss, prefix, room, edges);
    if (status == OK) {
        Items items{0, plan.masses, plan.edge_of, plan.item_of};
        items_of(team, edges, merged, items);
        for (int c = team.lane(); c < edges.len; c += Team::LANES) plan.classes[c] = merged[c];
        if (team.lane() == 0) {
            plan.len = edges.len;
            plan.count = items.count;
            plan.cells = edges.cells;
            plan.log_lowest = edges.log_lowest;
            plan.per_width = edges.per_width;
            plan.undrafted = undrafted(edges, merged);
        }
    }
    if (team.lane() == 0) plan.status = status;
}

// The item that a drafted token of masses p, q is on.
DRAFTPICK_DEVICE int step_of(const NodePlan& plan, double p, double q, double coin) {
    const Split on = split(plan.edges(), p, q);
    const bool lower = coin * p < on.p_lower || !(on.p_upper > 0.0);
    return plan.item_of[lower ? on.lower : smaller(on.lower + 1, plan.len - 1)];
}

// The scratch of a nest.
struct Nest {
    Mass scaled[MAX_EDGES];
    Cut cuts[MAX_EDGES + 1];
    double masses[MAX_EDGES], block_masses[MAX_EDGES], slopes[MAX_EDGES];
    unsigned short starts[MAX_EDGES + 1], block_of[MAX_EDGES];
    Segment free[MAX_FREE], window[MAX_REGION];
};

// Where the next token comes from if the path stops here.
struct Stop {
    int depth;  // −1 for nowhere
    Choice choice;
};

// The walkers of a tree.
struct Walkers {
    int paths;
    unsigned alive;
    int status;
    int length[MAX_PATHS];
    // The first walker of each one's group, and its item below the group's nest.
    int leader[MAX_PATHS], item[MAX_PATHS];
    double weight[MAX_PATHS];  // P_t
    Stop stop[MAX_PATHS];
    // Each walker's region: one side while the other is being written.
    int side[MAX_PATHS], segments[2][MAX_PATHS];
    Segment region[2][MAX_PATHS][MAX_REGION];

    DRAFTPICK_DEVICE bool steps(int walker, int depth) const { return (alive >> walker & 1u) && depth < length[walker]; }
    DRAFTPICK_DEVICE void start(int walker, int of_length) {
        length[walker] = of_length;
        leader[walker] = 0;
        item[walker] = 0;
        weight[walker] = 1.0;
        stop[walker] = Stop{-1, Choice{-1, 0.0}};
        side[walker] = 0;
        segments[0][walker] = 1;
        region[0][walker][0] = Segment{0.0, 1.0};
    }
};

// Lays out the nest of the group that `leader` leads, at the node `plan`, and moves its walkers into it. `steps` are the
// walkers' items there; `last` says that no region is needed any more.
template <class Team>
DRAFTPICK_CALL void descend(
    const Team& team, const NodePlan& plan, int leader, int depth, Drafts n, const unsigned short* steps, int stride,
    double accept_coin, double residual_coin, bool last, Nest& scratch, Walkers& walkers
) {
    const Items items{plan.count, const_cast<Mass*>(plan.masses), const_cast<unsigned short*>(plan.edge_of),
                      const_cast<unsigned short*>(plan.item_of)};
    Segment* base = walkers.region[walkers.side[leader]][leader];
    const int segments = walkers.segments[walkers.side[leader]][leader];
    Layout layout;
    layout.cuts = scratch.cuts;
    layout.masses = scratch.masses;
    layout.block_masses = scratch.block_masses;
    layout.slopes = scratch.slopes;
    layout.starts = scratch.starts;
    layout.block_of = scratch.block_of;
    nest(team, base, segments, items, n, scratch.scaled, layout);
    const double weight = walkers.weight[leader];
    const double total = residual(team, layout, weight, plan.undrafted);
    // Whether the winner, if it is of this group and gives up all that follows, stops here.
    const bool stops = accept_coin < keep_probability(total, weight);
    Choice choice{-1, 0.0};
    if (stops) choice = choose(team, items, layout, weight, plan.undrafted, total, residual_coin);
    // The lanes have read what is written now.
    team.sync();
    if (team.lane() == 0) {
        unsigned members = 0;
        for (int w = leader; w < walkers.paths; w++) {
            if (walkers.steps(w, depth) && walkers.leader[w] == leader) members |= 1u << w;
        }
        unsigned long long wanted[2] = {0, 0};
        for (int w = leader; w < walkers.paths; w++) {
            if (!(members >> w & 1u)) continue;
            const int item = steps[w * stride + depth];
            walkers.item[w] = item;
            walkers.weight[w] = accept_probability(weight * layout.items[item].q, layout.masses[item], 1e-6);
            if (stops) walkers.stop[w] = Stop{depth, choice};
            wanted[item >> 6] |= 1ull << (item & 63);
            walkers.segments[1 - walkers.side[w]][w] = 0;
        }
        Windows windows{scratch.free, MAX_FREE, 0, 0, scratch.window, MAX_REGION, 0, 0, false};
        for (int w = leader; w < MAX_PATHS && !last; w++) {
            // One block after the other, each down to the last item that a walker is on.
            if (!(members >> w & 1u) || walkers.segments[1 - walkers.side[w]][w] > 0) continue;
            const int block = layout.block_of[walkers.item[w]];
            int lowest = walkers.item[w];
            for (int v = w + 1; v < walkers.paths; v++) {
                if ((members >> v & 1u) && layout.block_of[walkers.item[v]] == block) lowest = smaller(lowest, walkers.item[v]);
            }
            cut_windows(base, layout, n, block, lowest, windows, [&](int i, Windows& found) {
                if (!(wanted[i >> 6] >> (i & 63) & 1ull)) return;
                for (int v = w; v < walkers.paths; v++) {
                    if (!(members >> v & 1u) || walkers.item[v] != i) continue;
                    const int to = 1 - walkers.side[v];
                    for (int s = 0; s < found.count; s++) walkers.region[to][v][s] = found.at(s);
                    walkers.segments[to][v] = found.count;
                }
            });
        }
        if (windows.full) walkers.status = TOO_MANY_SEGMENTS;
        for (int w = leader; w < walkers.paths; w++) {
            if (members >> w & 1u) walkers.side[w] = 1 - walkers.side[w];
        }
    }
    team.sync();
}

// Whether a walker's region reaches up to where the highest one starts.
DRAFTPICK_DEVICE bool may_win(const Walkers& walkers, int walker) {
    double highest = -1.0;
    for (int w = 0; w < walkers.paths; w++) {
        if (walkers.alive >> w & 1u) highest = larger(highest, walkers.region[walkers.side[w]][w][0].lo);
    }
    const int side = walkers.side[walker];
    return top(walkers.region[side][walker][walkers.segments[side][walker] - 1]) >= highest;
}

// The first of the walkers that stepped together with this one, onto the same item, and are before the same node.
DRAFTPICK_DEVICE int leader_of(const Walkers& walkers, int walker, int depth, const int* nodes, int stride) {
    for (int w = 0; w < walker; w++) {
        if (walkers.steps(w, depth + 1) && walkers.leader[w] == walkers.leader[walker]
            && walkers.item[w] == walkers.item[walker]
            && nodes[w * stride + depth + 1] == nodes[walker * stride + depth + 1]) {
            return w;
        }
    }
    return walker;
}

// The walker with the largest label, the first of equal ones. `label_coin(w)` is its coin.
template <class LabelCoin>
DRAFTPICK_DEVICE int winner_of(const Walkers& walkers, const LabelCoin& label_coin) {
    int winner = -1;
    double best = 0.0;
    for (int w = 0; w < walkers.paths; w++) {
        if (!(walkers.alive >> w & 1u)) continue;
        const int side = walkers.side[w];
        const double label = (walkers.alive & (walkers.alive - 1)) == 0
            ? 0.0
            : label_in(walkers.region[side][w], walkers.segments[side][w], label_coin(w));
        if (winner < 0 || label > best) {
            winner = w;
            best = label;
        }
    }
    return winner;
}

// --- block verification of one path ------------------------------------------------------------------------------------

// S_t = Σ (P_t·q − p)₊ is known between two numbers from the masses of the cells alone: in each it is at least what one
// token of the cell's masses would have, at most what tokens at the cell's ends would. The two differ in one cell, or
// two where P_t is next to an edge. `mass_of(c)` is what cell c holds.
struct Bounds {
    double least, most;
};

// How far a token may lie outside its cell: the rounding of a difference of logits in f32, as a share of the ratio.
constexpr double OUTSIDE = 1e-5;

template <class Team, class MassOf>
DRAFTPICK_DEVICE Bounds residual_bounds(const Team& team, const EdgeGrid& grid, const MassOf& mass_of, double weight) {
    // The cell that the weight is in. The cells that are neither it nor next to it have all their ratios on one side.
    const double place = (log(weight) - grid.log_lowest) * grid.per_width + 1.0;
    const int middle = !(place >= 0.0) ? 0 : place >= double(grid.len) ? grid.len : int(place);
    double least = 0.0, most = 0.0;
    for (int c = team.lane(); c < middle - 1; c += Team::LANES) {
        const Mass here = mass_of(c);
        least += weight * here.q - here.p;
    }
    most = least;
    for (int c = larger(middle - 1, 0) + team.lane(); c < smaller(middle + 2, grid.len); c += Team::LANES) {
        const Mass here = mass_of(c);
        if (!(here.q > 0.0)) continue;
        const double excess = weight * here.q - here.p;
        // The ends of the cell as q/p: the larger one, at its lower end, and the smaller one.
        const double low = inverse(grid, c) * (1.0 - OUTSIDE);
        least += larger(excess, 0.0);
        if (c == 0) {
            // No token of the cell has more than its target mass; some may have no draft mass.
            most += weight * here.q;
        } else {
            const double high = inverse(grid, c - 1) * (1.0 + OUTSIDE);
            const double p_upper = clamped((here.p * high - here.q) / (high - low), 0.0, here.p);
            const double p_lower = here.p - p_upper;
            most += larger(weight * high - 1.0, 0.0) * p_lower + larger(weight * low - 1.0, 0.0) * p_upper;
        }
    }
    least = team.sum(least);
    most = team.sum(most);
    // The rounding of the sums.
    return Bounds{least * (1.0 - 1e-12), larger(most, least) * (1.0 + 1e-12)};
}

// Whether a coin is below h_t, if the bounds tell.
enum Decision : int { NO, YES, UNDECIDED };

DRAFTPICK_DEVICE Decision keeps(Bounds residual, double weight, double coin) {
    if (coin < keep_probability(residual.least, weight)) return YES;
    return coin < keep_probability(residual.most, weight) ? UNDECIDED : NO;
}

}  // namespace draftpick
