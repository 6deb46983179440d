// From what the blocks have counted of a pair to the draft that is accepted, or to what is left to draw: a block a pair.
#include "cluster.cuh"
#include "exchange.cuh"
#include "rest.cuh"

#define ACCURACY 1e-6  // `LogitPair::accuracy`

#define CELLS CELLS_OF_RULE

#define CELLS_OF_THREAD ((CELLS + THREADS - 1) / THREADS)

struct Room {
    double team[6 * draftpick::Block::WARPS_OF_TEAM];
    double labels[MOST_DRAFTS];
    int first[2];
    double rho[2];
    double2 masses[MOST_DRAFTS];
    double coins[MOST_DRAFTS + 2];
    int tokens[MOST_DRAFTS];
    double table[128];
    draftpick::Mass cells[CELLS];
    double inverses[CELLS];
    union {
        draftpick::Mass prefix[CELLS];
        struct {
            double places[CELLS], lengths[CELLS], densities[CELLS], lacks[CELLS + 1], exceeds[CELLS + 1];
        };
    };
};

// What a pair has to decide on.
struct Case {
    RowStats stats;
    int k;
    CellCounts own[CELLS_OF_THREAD];  // of cells `threadIdx.x`, `threadIdx.x + THREADS`, …
};

// Notes that a pair was rejected; any order of them will do.
__device__ __forceinline__ void reject(const Batch& batch, int pair) {
    batch.selected[pair] = -1;
    batch.output[pair] = -1;
    batch.rejected[2 + atomicAdd(&batch.rejected[0], 1)] = pair;
}

// A pair without drafts: all of the target is left.
__device__ __forceinline__ void reject_all(const Batch& batch, int pair) {
    rest_of(batch, pair) = Rest{batch.draws[(long long)pair * (MOST_DRAFTS + 2) + 1], 0, -1, -1, -1, 0.0};
    reject(batch, pair);
}

// Asks for all that is read of a pair before any of it is looked at.
__device__ __forceinline__ void ask(const Batch& batch, int pair, Room& room, Case& it) {
    const CellCounts* counted = batch.counted + (long long)pair * CELLS;
#pragma unroll
    for (int i = 0; i < CELLS_OF_THREAD; i++) {
        const int cell = i * THREADS + (int)threadIdx.x;
        it.own[i] = CellCounts{0, 0};
        if (cell < CELLS) {
            const ulonglong2 both = __ldcg(reinterpret_cast<const ulonglong2*>(counted + cell));
            it.own[i] = CellCounts{both.x, both.y};
        }
    }
    it.stats = batch.stats[pair];
    it.k = batch.counts ? batch.counts[pair] : batch.k;
    // A pair that was refused may have any number of drafts.
    if (it.stats.flags != 0) return;
    for (int i = threadIdx.x; i < it.k; i += THREADS) {
        room.masses[i] = batch.masses[(long long)pair * MOST_DRAFTS + i];
        room.tokens[i] = batch.tokens[(long long)pair * batch.k + i];
    }
    for (int i = (int)threadIdx.x - 64; i < it.k + 2; i += THREADS) {
        if (i >= 0) room.coins[i] = batch.draws[(long long)pair * (MOST_DRAFTS + 2) + i];
    }
}

// Leaves the counts as they were, for the next call.
__device__ __forceinline__ void clear_counts(const Batch& batch, int pair, const Case& it) {
    CellCounts* counted = batch.counted + (long long)pair * CELLS;
#pragma unroll
    for (int i = 0; i < CELLS_OF_THREAD; i++) {
        const int cell = i * THREADS + (int)threadIdx.x;
        if (cell < CELLS && (it.own[i].p | it.own[i].q) != 0) counted[cell] = CellCounts{0, 0};
    }
}

// What a pair without drafts, or one that was refused, comes to; false for any other.
__device__ __forceinline__ bool ends_early(const Batch& batch, int pair, const Case& it) {
    if (it.stats.flags == 0 && it.stats.cells != 0) return false;
    // Blocks may have counted before another found what is wrong.
    clear_counts(batch, pair, it);
    if (it.stats.flags == 0 && threadIdx.x == 0) reject_all(batch, pair);
    return true;
}

// Opens a pair once it has been counted; false if nothing is left to decide.
__device__ __forceinline__ bool open_case(const Batch& batch, int pair, Room& room, Case& it) {
    wait_for_last();
    ask(batch, pair, room, it);
    let_next_start();
    return !ends_early(batch, pair, it);
}

// The edges of the grid as `Scan::counted` has it: edge 0 is the lowest.
__device__ __forceinline__ draftpick::EdgeGrid grid_of(const Batch& batch, const Case& it) {
    const Grid grid = batch.grids[it.k];
    draftpick::EdgeGrid edges;
    edges.width = 1.0 / (double)grid.per_width;
    edges.anchor = edges.log_lowest = log_of_lowest_edge(it.stats, grid);
    edges.first = 0.0;
    edges.per_width = (double)grid.per_width;
    edges.len = it.stats.cells;
    return edges;
}

// The masses of the cells of this thread, in one unit.
__device__ __forceinline__ draftpick::Mass own_mass(const Case& it, int i) {
    static_assert(COMMON_LAST_EXPONENT == COMMON_EXPONENT - 2, "a quarter");
    const double unit = i * THREADS + (int)threadIdx.x + 1 == it.stats.cells ? 0.25 : 1.0;
    return draftpick::Mass{(double)it.own[i].p, (double)it.own[i].q * unit};
}

// The masses of the cells to shared memory, times `per_p` and `per_q`.
__device__ __forceinline__ void put_cells(const Case& it, double per_p, double per_q, Room& room) {
#pragma unroll
    for (int i = 0; i < CELLS_OF_THREAD; i++) {
        const int cell = i * THREADS + (int)threadIdx.x;
        const draftpick::Mass own = own_mass(it, i);
        if (cell < it.stats.cells) room.cells[cell] = draftpick::Mass{own.p * per_p, own.q * per_q};
    }
    __syncthreads();
}

// Asks for a pair's rows to be brought nearer: they are about to be read again. All lanes of a warp.
__device__ __forceinline__ void fetch_rows(const Batch& batch, int pair) {
#if __CUDA_ARCH__ >= 900
    long long rows[2] = {batch.draft_rows ? batch.draft_rows[pair] : pair, batch.target_rows ? batch.target_rows[pair] : pair};
    const unsigned bytes = (unsigned)(batch.vocab * batch.logit_bytes), part = (bytes / 32 + 15) / 16 * 16;
    const unsigned from = part * (threadIdx.x & 31), end = min(from + part, bytes / 16 * 16);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const char* base = static_cast<const char*>(i == 0 ? batch.draft : batch.target);
        const long long stride = i == 0 ? batch.draft_stride : batch.target_stride;
        const char* row = base + rows[i] * stride * batch.logit_bytes;
        if (rows[i] >= 0 && ((unsigned long long)row & 15) == 0 && from < end) {
            asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(row + from), "r"(end - from) : "memory");
        }
    }
#endif
}

__device__ __forceinline__ void accept(const Batch& batch, int pair, const Room& room, int draft) {
    batch.selected[pair] = draft;
    batch.output[pair] = room.tokens[draft];
}

extern "C" __global__ void __launch_bounds__(THREADS, 3) decide_kseq(const __grid_constant__ Batch batch) {
    using namespace draftpick;
    extern __shared__ __align__(16) unsigned char room_of_pair[];
    Room& room = *reinterpret_cast<Room*>(room_of_pair);
    const int pair = (int)blockIdx.x;
    const Block team{room.team, 0, 0};
    Case it;
    if (!open_case(batch, pair, room, it)) return;
    const int k = it.k;
    const EdgeGrid grid = grid_of(batch, it);
    put_cells(it, 1.0, 1.0, room);
    const Bracket bracket = kseq_bracket(team, grid, room.cells, k, room.prefix);
    // beta is known between two bounds, 1e-5 apart as a rule, and so is rho*: the first warp takes one, the second the other.
    const Warp warp;
    const int lane = warp.lane(), side = threadIdx.x / 32;
    if (side < 2) {
        const double rho = side == 0 ? least_rho(bracket, k, 1e-9) : most_rho(bracket, k, 1e-9);
        // The first draft that is accepted.
        int first = k;
        for (int base = 0; base < k && first == k; base += 32) {
            const int i = base + lane;
            const bool accepts =
                i < k && room.coins[i] < accept_probability(room.masses[i].y, rho * room.masses[i].x, ACCURACY);
            const int found = warp.first(accepts);
            if (found < 32) first = base + found;
        }
        if (lane == 0) room.first[side] = first, room.rho[side] = rho;
    }
    clear_counts(batch, pair, it);
    __syncthreads();
    if (threadIdx.x >= 32) return;
    if (room.first[0] == room.first[1] && room.first[0] < k) {
        if (lane == 0) accept(batch, pair, room, room.first[0]);
        return;
    }
    // Rejected; or it hangs on where between the bounds rho* is.
    fetch_rows(batch, pair);
    if (lane == 0) {
        const double rho = room.rho[1];
        const bool is_rejected = room.first[0] == room.first[1], is_known = is_rejected && rho - room.rho[0] <= ACCURACY * rho;
        rest_of(batch, pair) = Rest{room.coins[k + 1], grid.len, -1, -1, -1, 0.0};
        open_cell_of(batch, pair) = OpenCell{
            rho, least_beta(bracket, rho), bracket.whole, bracket.discounted, bracket.masses.p, bracket.masses.q,
            grid.log_lowest + (double)(bracket.open - 1) * grid.width, is_known ? -1 : bracket.open, !is_rejected};
        reject(batch, pair);
    }
}

// A draft's edge, picked by one coin, and the coin stretched back to [0, 1).
struct OnEdge {
    int edge;
    double coin;
};

__device__ __forceinline__ OnEdge edge_of(const draftpick::Split& on, double p, int edges, double coin) {
    const double first = on.p_upper > 0.0 ? on.p_lower / p : 1.0;
    OnEdge place = coin < first ? OnEdge{on.lower, coin / first}
                                : OnEdge{draftpick::smaller(on.lower + 1, edges - 1), (coin - first) / (1.0 - first)};
    // The largest number below 1 for what rounding puts outside [0, 1).
    if (!(place.coin >= 0.0 && place.coin < 1.0)) place.coin = 1.0 - 0.5 * draftpick::EPSILON;
    return place;
}

extern "C" __global__ void __launch_bounds__(THREADS, 3) decide_optimal(const __grid_constant__ Batch batch) {
    using namespace draftpick;
    extern __shared__ __align__(16) unsigned char room_of_pair[];
    Room& room = *reinterpret_cast<Room*>(room_of_pair);
    const int pair = (int)blockIdx.x;
    const Block team{room.team, 0, 0};
    Case it;
    if (!open_case(batch, pair, room, it)) return;
    const int k = it.k;
    const EdgeGrid grid = grid_of(batch, it);
    const int count = grid.len;
    inverses_of(team, grid, room.table, room.inverses);
    // Each kind sums to 1 but for the rounding of the counts.
    Mass own_cells{0.0, 0.0}, all;
#pragma unroll
    for (int i = 0; i < CELLS_OF_THREAD; i++) own_cells.p += own_mass(it, i).p, own_cells.q += own_mass(it, i).q;
    team.scan(own_cells.p, own_cells.q, all.p, all.q);
    put_cells(it, 1.0 / all.p, 1.0 / all.q, room);
    clear_counts(batch, pair, it);
    const Edges edges{grid.log_lowest, grid.per_width, count, count, nullptr, room.inverses};
    Exchange layout;
    layout.places = room.places, layout.lengths = room.lengths, layout.densities = room.densities;
    layout.lacks = room.lacks, layout.exceeds = room.exceeds;
    exchange(team, edges, room.cells, drafts(k), layout);
    // The labels: a warp a draft.
    const Warp warp;
    for (int i = threadIdx.x / 32; i < k; i += Block::WARPS_OF_TEAM) {
        const double2 mass = room.masses[i];
        const Split on = split(edges, mass.x, mass.y);
        const OnEdge place = edge_of(on, mass.x, count, room.coins[i]);
        const double label = exchanged_label(warp, layout, count - 1 - place.edge, place.coin);
        if (warp.lane() == 0) room.labels[i] = label;
    }
    __syncthreads();
    // The draft with the largest label, the first of equal ones: every thread finds it.
    int winner = 0;
    for (int i = 1; i < k; i++) {
        if (room.labels[i] > room.labels[winner]) winner = i;
    }
    auto density = [&](int edge) { return exchanged_density(layout, count - 1 - edge); };
    const double p = room.masses[winner].x, q = room.masses[winner].y;
    const Split on = split(edges, p, q);
    double m = on.p_lower * density(on.lower);
    if (on.p_upper > 0.0) m += on.p_upper * density(on.lower + 1);
    if (room.coins[k] < accept_probability(q, m, ACCURACY)) {
        if (threadIdx.x == 0) accept(batch, pair, room, winner);
        return;
    }
    if (threadIdx.x < 32) fetch_rows(batch, pair);
    // Rejected: the residual of each class takes the place of the cells, which are in shared memory. Edges from `border`
    // on are in H. Tokens of a class below it lack mass or have what they need, those of a class above it have none left;
    // in the one that it divides there may be both.
    ClassRest* classes = classes_of(batch, pair);
    const int border = count - layout.over;
    auto changes = [&](int of) {
        const Mass sums = room.cells[of];
        return of == border && sums.p > 0.0 && sums.q > 0.0 && !(room.inverses[of] >= density(of));
    };
    const int each = (count + Block::LANES - 1) / Block::LANES;
    const int from = smaller(int(threadIdx.x) * each, count), end = smaller(from + each, count);
    double own = 0.0, known, lower = density(from == 0 ? 0 : from - 1);
    int last = -1;
    for (int of = from; of < end; of++) {
        const Mass sums = room.cells[of];
        const double upper = density(of);
        double rise = 0.0, high = 0.0, mass = 0.0;
        if (of > 0) {
            high = room.inverses[of - 1];
            rise = ratio(upper - lower, high - room.inverses[of]);
        }
        if (!(sums.p > 0.0)) {
            mass = sums.q;
        } else if (of <= border && !changes(of)) {
            const double p_upper = of == 0 ? 0.0 : upper_part(edges, sums, of);
            mass = larger(sums.q - (sums.p - p_upper) * lower - p_upper * upper, 0.0);
        }
        if (mass > 0.0) last = of;
        own += mass;
        classes[of] = ClassRest{own, (float)(1.0 + rise), (float)(-lower - rise * high)};
        lower = upper;
    }
    const double before = team.scan(own, known) - own;
    last = int(team.max(double(last)));
    for (int of = from; of < end; of++) classes[of].upto += before;
    if (threadIdx.x == 0) {
        const int unknown = border < count && changes(border) ? border : -1;
        rest_of(batch, pair) =
            Rest{room.coins[k + 1], count, q > 0.0 ? winner : -1, unknown, last, known};
        reject(batch, pair);
    }
}

// The bytes of shared memory that both are launched with.
extern "C" __global__ void decide_room(int* bytes) { *bytes = (int)sizeof(Room); }
