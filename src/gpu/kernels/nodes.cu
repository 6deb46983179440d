// Counting the rows of a tree's nodes: what plans and walks of path.cu go by.

// The paths' grid reaches further down than that of a token rule.
#define MOST_COUNTS 1600
#include "pairs.cuh"

// `count` of count.cu for nodes: no drafts are looked at, and a node without a draft row is none to count.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE) count_nodes(const __grid_constant__ Batch batch) {
    const int pair = (int)cluster_number();
    if (batch.draft_rows && batch.draft_rows[pair] < 0) return;
    Setup s = setup(batch.chunk, sizeof(Counts));
    Shared& shared = *s.shared;
    Fault fault = fault_of(batch, pair, 0);
    if (fault.flags == 0) {
        Pair rows;
        CellCounts* counted = batch.counted + (long long)pair * MAX_CELLS;
        open_pair(batch, pair, 0, shared, s.room, rows, [&] {
            if (threadIdx.x == 32) shared.grid = batch.grids[0];
            clear(*s.counts);
            // Each block empties a part of what all add to once they have heard of all.
            int blocks = (int)blocks_of_cluster();
            for (int i = (int)(block_in_cluster() * THREADS + threadIdx.x); i < MAX_CELLS; i += blocks * THREADS) {
                counted[i] = CellCounts{0, 0};
            }
            __threadfence();
        });
        cluster_arrive();
        fault.flags = normalise(shared, rows, fault.token, [&](const double (&log_sum)[2]) {
            find_cells(shared.grid, log_sum, shared.of_all);
        });
        Cells cells(shared.grid, shared.of_all.first, shared.of_all.last);
        if (fault.flags == 0 && cells.last >= MOST_COUNTS) fault = Fault{ROW_TOO_MANY_CELLS, -1};
        if (fault.flags == 0) {
            if (block_in_cluster() == 0 && threadIdx.x == 0) batch.stats[pair] = stats_of(rows, cells.first, cells.last + 1);
            count_chunk(shared, rows, cells, *s.counts);
            let_next_start();
            __threadfence();
            __syncthreads();
            add_counts(shared, *s.counts, cells, counted);
        }
    }
    if (fault.flags != 0) {
        refuse(batch, pair, fault.flags, fault.token);
        // A bad token is read from all blocks. Else all that the others write to this one has come.
        cluster_leave();
    }
}

// The bytes of a block's counts.
extern "C" __global__ void nodes_room(int* out) { out[0] = (int)sizeof(Counts); }
