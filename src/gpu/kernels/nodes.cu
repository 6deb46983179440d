// Counting the rows of a tree's nodes: what plans and walks of path.cu go by.

// The paths' grid reaches further down than that of a token rule.
#define MOST_COUNTS 1600
#include "pairs.cuh"

// `count` of optimal.cu for nodes: no drafts are looked at, and a node without a draft row is none to count.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE) count_nodes(const __grid_constant__ Batch batch) {
    const int pair = (int)(blockIdx.x / blocks_of_cluster());
    if (batch.draft_rows && batch.draft_rows[pair] < 0) return;
    Setup s = setup(batch.chunk, true);
    Pair rows;
    if (begin(batch, pair, s, rows, 0, [&] { clear(*s.counts); })) {
        Cells cells;
        if (!cells_of(batch.grids[0], rows, MOST_COUNTS, cells)) {
            refuse(batch, pair, ROW_TOO_MANY_CELLS, -1);
        } else {
            leave_stats(batch, pair, rows, cells.first, cells.last + 1);
            count_chunk(*s.shared, rows, cells, *s.counts);
            write_masses(*s.shared, *s.counts, cells.last + 1, batch.cells + (long long)pair * MAX_CELLS);
        }
    }
    cluster_leave();
}

// The bytes of a block's counts.
extern "C" __global__ void nodes_room(int* out) { out[0] = (int)sizeof(Counts); }
