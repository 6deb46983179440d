// The first step of the rules over ratio classes: every block of a cluster counts its part of a pair.
#include "pairs.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE) count(const __grid_constant__ Batch batch) {
    int pair = (int)cluster_number(), drafts = drafts_of(batch, pair);
    // The last block has the fewest tokens: it looks after the drafts, and writes what the pair leaves.
    bool in_charge = block_in_cluster() + 1 == blocks_of_cluster();
    Setup s = setup(batch.chunk, sizeof(Counts));
    Shared& shared = *s.shared;
    Fault fault = fault_of(batch, pair, drafts);
    if (fault.flags != 0) {
        if (in_charge && threadIdx.x == 0) leave_refusal(batch, pair, fault.flags, fault.token);
        return;
    }
    Pair rows;
    open_pair(batch, pair, 0, shared, s.room, rows, [&] {
        if (threadIdx.x == 32) shared.grid = batch.grids[drafts];
        clear(*s.counts);
        if (in_charge) note_drafts(batch, pair, drafts, shared, rows);
    });
    cluster_arrive();
    // All blocks alike find what is wrong with the rows.
    fault.flags = normalise(shared, rows, fault.token, [&](const double (&log_sum)[2]) {
        find_cells(shared.grid, log_sum, shared.of_all);
    });
    Cells cells(shared.grid, shared.of_all.first, shared.of_all.last);
    if (fault.flags == 0 && drafts > 0 && cells.last >= MOST_COUNTS) fault = Fault{ROW_TOO_MANY_CELLS, -1};
    bool is_refused = fault.flags != 0;
    if (!is_refused && drafts > 0) {
        count_chunk(shared, rows, cells, *s.counts);
        let_next_start();
        __syncthreads();
        add_counts(shared, *s.counts, cells, batch.counted + (long long)pair * CELLS_OF_RULE);
    }
    if (in_charge) {
        if (!is_refused) fault = fault_of_drafts(shared, rows, drafts);
        if (fault.flags == 0) {
            double2* masses = batch.masses + (long long)pair * MOST_DRAFTS;
            double* draws = batch.draws + (long long)pair * (MOST_DRAFTS + 2);
            for (int i = threadIdx.x; i < drafts; i += THREADS) {
                masses[i] = make_double2(draft_mass(shared, rows, i), target_mass(shared, rows, i));
            }
            for (int i = threadIdx.x; i < drafts + 2; i += THREADS) draws[i] = shared.coins[i];
            if (threadIdx.x == 0) {
                batch.stats[pair] = stats_of(rows, drafts > 0 ? cells.first : 0, drafts > 0 ? cells.last + 1 : 0);
            }
        } else if (threadIdx.x == 0) {
            leave_refusal(batch, pair, fault.flags, fault.token);
        }
    }
    // All that the others write to this block has come. Only a bad token is read from it.
    if (is_refused) cluster_leave();
}
