// The order-statistic coupling around its plan: the masses of the ratio cells before, the residual draw after.
#include "optimal.cuh"
#include "pairs.cuh"

// Draft and target masses of the cells of each pair, and of its drafts; the coins.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE) count(const __grid_constant__ Batch batch) {
    int pair = (int)(blockIdx.x / blocks_of_cluster());
    Setup s = setup(batch.chunk, true);
    Pair rows;
    clear(*s.counts);
    int drafts = drafts_of(batch, pair);
    if (begin(batch, pair, s, rows, drafts)) {
        Cells cells;
        if (block_in_cluster() == 0) {
            double2* masses = batch.masses + (long long)pair * MOST_DRAFTS;
            double* draws = batch.draws + (long long)pair * (MOST_DRAFTS + 2);
            for (int i = threadIdx.x; i < drafts; i += THREADS) {
                masses[i] = make_double2(draft_mass(*s.shared, rows, i), target_mass(*s.shared, rows, i));
            }
            for (int i = threadIdx.x; i < drafts + 2; i += THREADS) draws[i] = s.shared->coins[i];
        }
        if (drafts == 0) {
            leave_stats(batch, pair, rows, 0, 0);
        } else if (!cells_of(batch.grids[drafts], rows, MOST_COUNTS, cells)) {
            refuse(batch, pair, ROW_TOO_MANY_CELLS, -1);
        } else {
            leave_stats(batch, pair, rows, cells.first, cells.last + 1);
            count_chunk(*s.shared, rows, cells, *s.counts);
            write_masses(*s.shared, *s.counts, cells.last + 1, batch.cells + (long long)pair * MAX_CELLS);
        }
    }
    cluster_sync();
}

// The residual mass of the tokens of one class; of all tokens with `from` 0 and `end` beyond the cells.
struct ClassMass {
    const Pair& rows;
    const Cells& cells;
    unsigned from, end;
    float of_q, of_p;

    __device__ __forceinline__ float operator()(float d, float t) const {
        unsigned cell = cells.cell(cells.place(d, t));
        float mass = fmaxf(fmaf(rows.q(t), of_q, rows.p(d) * of_p), 0.0f);
        return cell >= from && cell < end ? mass : 0.0f;
    }
};

__device__ __forceinline__ ClassMass mass_of_class(const ClassRest* classes, int of, const Pair& rows, const Cells& cells) {
    unsigned from = of > 0 ? (unsigned)classes[of - 1].end : 0u;
    return ClassMass{rows, cells, from, (unsigned)classes[of].end, classes[of].of_q, classes[of].of_p};
}

__device__ __forceinline__ void draw_rest(const Batch& batch, int pair, int round, const Setup& s) {
    const RowStats stats = batch.stats[pair];
    const Rest rest = *reinterpret_cast<const Rest*>(batch.cells + (long long)pair * MAX_CELLS);
    ClassRest* classes = reinterpret_cast<ClassRest*>(reinterpret_cast<Rest*>(batch.cells + (long long)pair * MAX_CELLS) + 1);
    Shared& shared = *s.shared;
    Pair rows;
    open_pair(batch, pair, drafts_of(batch, pair), round, shared, s.room, rows);
    normalised(stats, rows);
    if (!rows.has_draft || rest.classes == 0) rows.share[0] = 0.0f;
    Cells cells(rest.classes == 0 ? 0.0f : batch.grids[drafts_of(batch, pair)].per_width, stats.first, max(stats.cells - 1, 0));
    if (rest.classes == 0) {
        auto all = [&](float, float t) { return rows.q(t); };
        draw(shared, s.tile_sums, rows, all, [&](double total) { return rest.coin * total; });
        if (threadIdx.x == 0 && shared.found >= 0) batch.selected[pair] = -1, batch.output[pair] = shared.found;
        return;
    }
    // The masses that only the rows tell, but for the last of them, which comes last.
    double known = rest.known;
    for (int of = 0; of < rest.last; of++) {
        if (classes[of].mass >= 0.0) continue;
        double mass = draw(shared, s.tile_sums, rows, mass_of_class(classes, of, rows, cells), [](double) { return -1.0; });
        // Every block has read it, and writes the same.
        cluster_sync();
        if (threadIdx.x == 0) classes[of].mass = mass;
        __syncthreads();
        known += mass;
    }
    double total = known, threshold = rest.coin * known;
    bool found = false;
    if (rest.last >= 0) {
        double here = draw(shared, s.tile_sums, rows, mass_of_class(classes, rest.last, rows, cells), [&](double mass) {
            double all = known + mass, at = rest.coin * all - known;
            return rest.draft >= 0 && all <= ACCURACY ? -1.0 : at >= 0.0 && mass > 0.0 ? at : -1.0;
        });
        total = known + here;
        threshold = rest.coin * total;
        found = here > 0.0 && threshold >= known && !(rest.draft >= 0 && total <= ACCURACY);
        if (found && threadIdx.x == 0 && shared.found >= 0) batch.selected[pair] = -1, batch.output[pair] = shared.found;
    }
    if (found) return;
    if (rest.draft >= 0 && total <= ACCURACY) {
        accepted(batch, pair, rest.draft);
        return;
    }
    // First the class, then the token in it.
    int chosen = -1;
    double cumulative = 0.0, before = 0.0;
    for (int of = 0; of < rest.classes; of++) {
        double mass = classes[of].mass;
        if (of == rest.last || !(mass > 0.0)) continue;
        chosen = of, before = cumulative;
        cumulative += mass;
        if (threshold < cumulative) break;
    }
    // The last class has its turn again where rounding left the others nothing.
    if (chosen < 0) chosen = rest.last;
    double drawn = 0.0;
    if (chosen >= 0) {
        cluster_sync();
        drawn = draw(shared, s.tile_sums, rows, mass_of_class(classes, chosen, rows, cells),
                     [&](double) { return fmax(threshold - before, 0.0); });
    }
    if (drawn > 0.0) {
        if (threadIdx.x == 0 && shared.found >= 0) batch.selected[pair] = -1, batch.output[pair] = shared.found;
        return;
    }
    int kept = possible(shared, rows, drafts_of(batch, pair));
    if (kept >= 0) {
        accepted(batch, pair, kept);
    } else {
        refuse(batch, pair, ROW_NO_RESIDUAL, -1);
    }
}

// Draws for the pairs that were rejected; reads the rows of those only.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE) draw_residual(const __grid_constant__ Batch batch) {
    Setup s = setup(batch.chunk, false);
    int blocks = (int)blocks_of_cluster(), round = 0;
    for (int pair = (int)blockIdx.x / blocks; pair < batch.pairs; pair += (int)gridDim.x / blocks) {
        if (batch.selected[pair] == REJECTED) {
            // No block writes the outcome before all have seen that there is something to do.
            cluster_sync();
            draw_rest(batch, pair, round, s);
            round++;
            cluster_sync();
        }
    }
}
