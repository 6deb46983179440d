// The order-statistic coupling over ratio classes: from the masses of a pair's cells to the draft that is accepted, or to
// what is left to draw. A warp a pair, in its shared memory.
#include "optimal.cuh"

// The accuracy of laws from logits.
#define DRAFTPICK_COARSENING_LOSS 1e-6
// Regions need no more digits than the masses have by far.
#define DRAFTPICK_PRECISION 1e-11
#include "plan.cuh"

using namespace draftpick;

#ifndef EDGES
#define EDGES 192  // room for edges; 1040 holds those of any pair
#endif
#if EDGES == 1040
#define SEGMENTS 2048  // of a block that no item owns
#define RING 1024      // of a window
#else
#define SEGMENTS 256
#define RING 64
#endif

struct Room {
    Mass cells[1040];
    double inverses[EDGES];
    Mass classes[EDGES];
    Mass masses[EDGES];
    Cut cuts[EDGES + 1];
    double item_masses[EDGES];
    double block_masses[EDGES];
    double slopes[EDGES];
    unsigned short kept[EDGES];
    unsigned short edge_of[EDGES];
    unsigned short item_of[EDGES];
    unsigned short starts[EDGES + 1];
    unsigned short block_of[EDGES];
    Segment free[SEGMENTS];
    Segment window[RING];
    double labels[MOST_DRAFTS];
    Place places[MOST_DRAFTS];
};

// The ratio grid of a pair, as `Scan::counted` has it: edge 0 is the lowest.
__device__ __forceinline__ EdgeGrid grid_of(const RowStats& stats, Grid grid) {
    EdgeGrid edges;
    edges.width = 1.0 / (double)grid.per_width;
    edges.anchor = log_of_lowest_edge(stats, grid);
    edges.first = 0.0;
    edges.log_lowest = edges.anchor;
    edges.per_width = (double)grid.per_width;
    edges.len = stats.cells;
    return edges;
}

__device__ __forceinline__ void fail(const Batch& batch, int pair, int flag) {
    if (threadIdx.x == 0) {
        batch.stats[pair].flags |= flag;
        batch.selected[pair] = -1;
        batch.output[pair] = -1;
    }
}

// Plans a pair; false if there is not enough room.
__device__ bool plan_pair(const Batch& batch, int pair, Room& room) {
    const Warp team;
    const int lane = team.lane();
    const RowStats stats = batch.stats[pair];
    const int k = batch.counts ? batch.counts[pair] : batch.k;
    const double2* cells = batch.cells + (long long)pair * MAX_CELLS;
    const double* coins = batch.draws + (long long)pair * (MOST_DRAFTS + 2);
    // Each sums to 1 but for the rounding of the counts.
    Mass all{0.0, 0.0};
    for (int i = lane; i < stats.cells; i += 32) {
        room.cells[i] = Mass{cells[i].x, cells[i].y};
        all.p += cells[i].x, all.q += cells[i].y;
    }
    all = Mass{1.0 / team.sum(all.p), 1.0 / team.sum(all.q)};
    for (int i = lane; i < stats.cells; i += 32) room.cells[i].p *= all.p, room.cells[i].q *= all.q;
    team.sync();
    const EdgeGrid grid = grid_of(stats, batch.grids[k]);
    Edges edges;
    const EdgeRoom edge_room{room.kept, room.inverses, room.classes, EDGES};
    if (coarsened(team, grid, room.cells, k, edge_room, edges) != OK) return false;
    Items items{0, room.masses, room.edge_of, room.item_of};
    items_of(team, edges, room.classes, items);
    Layout layout;
    layout.count = items.count;
    layout.items = items.masses;
    layout.cuts = room.cuts;
    layout.masses = room.item_masses;
    layout.starts = room.starts;
    layout.block_masses = room.block_masses;
    layout.slopes = room.slopes;
    layout.block_of = room.block_of;
    const Drafts n = drafts(k);
    const Segment unit{0.0, 1.0};
    lay_out(team, &unit, 1, n, layout);
    // The labels: of drafts in a block of their own at once, of the others with the windows of their block.
    const double2* masses = batch.masses + (long long)pair * MOST_DRAFTS;
    bool waits = false;
    for (int i = lane; i < k; i += 32) {
        const double2 mass = masses[i];
        const Place place = placed(edges, items, mass.x, mass.y, coins[i]);
        const int block = layout.block_of[place.item];
        room.places[i] = place;
        if (layout.starts[block + 1] - layout.starts[block] == 1) {
            const Segment whole = piece(&unit, layout.cuts[place.item], layout.cuts[place.item + 1], 0);
            room.labels[i] = label_in(&whole, 1, place.share);
        } else {
            room.labels[i] = -1.0;
            waits = true;
        }
    }
    team.sync();
    bool full = false;
    if (__any_sync(~0u, waits)) {
        if (lane == 0) {
            Windows windows;
            windows.free = room.free;
            windows.capacity = SEGMENTS;
            windows.window = room.window;
            windows.ring = RING;
            windows.full = false;
            for (int i = 0; i < k; i++) {
                if (room.labels[i] >= 0.0) continue;
                // All drafts in this block at once, down to the least dense of them.
                const int block = layout.block_of[room.places[i].item];
                int lowest = room.places[i].item;
                for (int j = i + 1; j < k; j++) {
                    const int item = room.places[j].item;
                    if (layout.block_of[item] == block && item < lowest) lowest = item;
                }
                cut_windows(&unit, layout, n, block, lowest, windows, [&](int item, Windows& found) {
                    for (int j = i; j < k; j++) {
                        if (room.places[j].item != item) continue;
                        double length = 0.0;
                        for (int s = 0; s < found.count; s++) length += found.at(s).len;
                        double at = room.places[j].share * length, label = top(found.at(found.count - 1));
                        for (int s = 0; s < found.count; s++) {
                            if (at < found.at(s).len) {
                                label = found.at(s).lo + at;
                                break;
                            }
                            at -= found.at(s).len;
                        }
                        room.labels[j] = label;
                    }
                });
            }
            full = windows.full;
        }
        full = __shfl_sync(~0u, full ? 1 : 0, 0) != 0;
    }
    team.sync();
    if (full) {
        fail(batch, pair, ROW_TOO_MANY_CELLS);
        return true;
    }
    // The draft with the largest label, the first of equal ones.
    double best = -1.0;
    int winner = 0;
    for (int i = lane; i < k; i += 32) {
        if (room.labels[i] > best) best = room.labels[i], winner = i;
    }
    const double most = team.max(best);
    winner = best == most ? winner : MOST_DRAFTS;
    for (int step = 16; step > 0; step >>= 1) winner = smaller(winner, __shfl_xor_sync(~0u, winner, step));
    const double p = masses[winner].x, q = masses[winner].y;
    const double m = selected_of(edges, items, layout, class_of(edges, p, q), p, q);
    if (coins[k] < accept_probability(q, m, 1e-6)) {
        if (lane == 0) {
            batch.selected[pair] = winner;
            batch.output[pair] = batch.tokens[(long long)pair * batch.k + winner];
        }
        return true;
    }
    // Rejected: the residual of each class takes the place of the cells, which are in shared memory.
    Rest* rest = reinterpret_cast<Rest*>(batch.cells + (long long)pair * MAX_CELLS);
    ClassRest* classes = reinterpret_cast<ClassRest*>(rest + 1);
    int last = -1;
    double known = 0.0;
    for (int of = lane; of < edges.len; of += 32) {
        const Mass sums = room.classes[of];
        const Sign sign = sign_of(edges, room.classes, items, layout, of);
        ClassRest here;
        here.end = of + 1 < edges.len ? edges.kept[of] + 1 : edges.cells;
        here.unused = 0;
        const double low_density = density(items, layout, of == 0 ? 0 : of - 1);
        double rise = 0.0, high = 0.0;
        if (of > 0) {
            high = edges.inverses[of - 1];
            rise = (density(items, layout, of) - low_density) / (high - edges.inverses[of]);
        }
        here.of_q = (float)(1.0 + rise);
        here.of_p = (float)(-low_density - rise * high);
        if (!(sums.q > 0.0)) {
            here.mass = 0.0;
        } else if (!(sums.p > 0.0)) {
            here.mass = sums.q;
        } else if (sign == LACKS) {
            here.mass = larger(sums.q - selected_of(edges, items, layout, of, sums.p, sums.q), 0.0);
        } else {
            here.mass = sign == EXCEEDS ? 0.0 : UNKNOWN;
        }
        if (here.mass < 0.0) {
            last = of;
        } else {
            known += here.mass;
        }
        classes[of] = here;
    }
    known = team.sum(known);
    for (int step = 16; step > 0; step >>= 1) last = larger(last, __shfl_xor_sync(~0u, last, step));
    if (lane == 0) {
        *rest = Rest{edges.len, q > 0.0 ? winner : -1, last, 0, known, coins[k + 1]};
        batch.selected[pair] = REJECTED;
        batch.output[pair] = -1;
    }
    return true;
}

#define UNPLANNED -3

extern "C" __global__ void __launch_bounds__(32) plan(const __grid_constant__ Batch batch) {
    extern __shared__ __align__(16) unsigned char memory[];
    Room& room = *reinterpret_cast<Room*>(memory);
#if EDGES == 1040
    // The few pairs whose edges found no room before.
    for (int pair = (int)blockIdx.x; pair < batch.pairs; pair += (int)gridDim.x) {
        if (batch.selected[pair] != UNPLANNED) continue;
        if (!plan_pair(batch, pair, room)) fail(batch, pair, ROW_TOO_MANY_CELLS);
        __syncwarp();
    }
#else
    int pair = (int)blockIdx.x;
    if (batch.stats[pair].flags != 0) return;
    if (batch.stats[pair].cells == 0) {
        // No drafts: all of the target is left.
        if (threadIdx.x == 0) {
            Rest* rest = reinterpret_cast<Rest*>(batch.cells + (long long)pair * MAX_CELLS);
            *rest = Rest{0, -1, -1, 0, 0.0, batch.draws[(long long)pair * (MOST_DRAFTS + 2) + 1]};
            batch.selected[pair] = REJECTED;
        }
        return;
    }
    if (!plan_pair(batch, pair, room) && threadIdx.x == 0) batch.selected[pair] = UNPLANNED;
#endif
}

// The bytes of shared memory that `plan` is launched with.
extern "C" __global__ void plan_room(int* bytes) { *bytes = (int)sizeof(Room); }
