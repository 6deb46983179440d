// The maximal coupling, which follows from the normalisers alone: one kernel, one read of the rows.
#include "draw.cuh"

// The maximal coupling of one draft; without a draft, a token of the target.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
    select_maximal(const __grid_constant__ Batch batch) {
    int pair = (int)cluster_number();
    Setup s = setup(batch.chunk, 0);
    Pair rows;
    int count = drafts_of(batch, pair);
    if (begin(batch, pair, s, rows, count)) {
        if (block_in_cluster() == 0 && threadIdx.x == 0) batch.stats[pair] = stats_of(rows, 0, 0);
        double q = 0.0;
        bool accept = false;
        if (count > 0) {
            q = target_mass(*s.shared, rows, 0);
            accept = s.shared->coins[count] < accept_probability(q, draft_mass(*s.shared, rows, 0));
        }
        if (accept) {
            accepted(batch, pair, 0);
        } else {
            if (count == 0) rows.share[0] = 0.0f;
            auto mass = [&](float d, float t) { return fmaxf(fmaf(rows.q(t), SURE, -rows.p(d)), 0.0f); };
            auto allows = [&](int i) { return target_mass(*s.shared, rows, i) > 0.0; };
            resample(batch, pair, s, rows, s.shared->coins[count + 1], count, q > 0.0 ? 0 : -1, mass, allows);
        }
    }
    cluster_leave();
}
