// The first step of the rules over ratio classes: every block of a cluster counts its part of a pair.
#include "pairs.cuh"

// Adds what a block has counted to what the others have: integers, so that it does not matter which comes first. That costs
// less than for the blocks to wait for each other.
__device__ __forceinline__ void add_counts(const Shared& shared, const Counts& counts, const Cells& cells, CellCounts* out) {
    __syncthreads();
    int of_p = shared.exponents[0] - 31 - COMMON_EXPONENT, of_q = shared.exponents[1] - 31 - COMMON_EXPONENT;
    for (int i = threadIdx.x; i <= cells.last; i += THREADS) {
        unsigned p = counts.p[i], q = counts.q[i];
        int shift = i == cells.last ? shared.exponents[2] - 31 - COMMON_LAST_EXPONENT : of_q;
        if (p > 0) atomicAdd(&out[i].p, (unsigned long long)p << of_p);
        if (q > 0) atomicAdd(&out[i].q, (unsigned long long)q << shift);
    }
}

static_assert(FINEST_EXPONENT - 31 >= COMMON_EXPONENT && LAST_EXPONENT - 31 >= COMMON_LAST_EXPONENT, "no bit is lost");

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE) count(const __grid_constant__ Batch batch) {
    int pair = (int)(blockIdx.x / blocks_of_cluster());
    Setup s = setup(batch.chunk, true);
    Pair rows;
    int drafts = drafts_of(batch, pair);
    if (!begin(batch, pair, s, rows, drafts, [&] { clear(*s.counts); })) {
        cluster_leave();
        return;
    }
    // The last block has the fewest tokens, and time.
    if (block_in_cluster() + 1 == blocks_of_cluster()) {
        double2* masses = batch.masses + (long long)pair * MOST_DRAFTS;
        double* draws = batch.draws + (long long)pair * (MOST_DRAFTS + 2);
        for (int i = threadIdx.x; i < drafts; i += THREADS) {
            masses[i] = make_double2(draft_mass(*s.shared, rows, i), target_mass(*s.shared, rows, i));
        }
        for (int i = threadIdx.x; i < drafts + 2; i += THREADS) draws[i] = s.shared->coins[i];
    }
    Cells cells;
    if (drafts == 0) {
        leave_stats(batch, pair, rows, 0, 0);
    } else if (!cells_of(batch.grids[drafts], rows, MOST_COUNTS, cells)) {
        refuse(batch, pair, ROW_TOO_MANY_CELLS, -1);
    } else {
        leave_stats(batch, pair, rows, cells.first, cells.last + 1);
        count_chunk(*s.shared, rows, cells, *s.counts);
        let_next_start();
        add_counts(*s.shared, *s.counts, cells, batch.counted + (long long)pair * CELLS_OF_RULE);
    }
}
