// The token rules that follow from a pair of rows alone: one kernel, one read of the rows.
#include "kseq.cuh"
#include "pairs.cuh"

// The maximal coupling of one draft; without a draft, a token of the target.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
    select_maximal(const __grid_constant__ Batch batch) {
    int pair = (int)(blockIdx.x / blocks_of_cluster());
    Setup s = setup(batch.chunk, false);
    Pair rows;
    int count = drafts_of(batch, pair);
    if (begin(batch, pair, s, rows, count)) {
        leave_stats(batch, pair, rows, 0, 0);
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
            resample(batch, pair, s, rows, count, q > 0.0 ? 0 : -1, mass);
        }
    }
    cluster_sync();
}

// k-SEQ; without drafts, a token of the target.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE) select_kseq(const __grid_constant__ Batch batch) {
    int pair = (int)(blockIdx.x / blocks_of_cluster());
    Setup s = setup(batch.chunk, true);
    Pair rows;
    clear(*s.counts);
    int k = drafts_of(batch, pair);
    if (begin(batch, pair, s, rows, k)) {
        leave_stats(batch, pair, rows, 0, 0);
        double rho = 1.0, beta = 0.0;
        int first = 0x7fffffff;
        if (k > 0) {
            Bins& bins = *reinterpret_cast<Bins*>(s.counts);
            find_rho(*s.shared, bins, rows, batch.grids[k].per_width, k, rho, beta);
            // The first draft that is accepted; every warp finds the same.
            for (int base = 0; base < k && first == 0x7fffffff; base += 32) {
                int i = base + (int)(threadIdx.x & 31);
                bool accept = i < k;
                if (accept) {
                    double p = draft_mass(*s.shared, rows, i), q = target_mass(*s.shared, rows, i);
                    accept = s.shared->coins[i] < accept_probability(q, rho * p);
                }
                unsigned lanes = __ballot_sync(~0u, accept);
                if (lanes) first = base + __ffs((int)lanes) - 1;
            }
        }
        if (first < k) {
            accepted(batch, pair, first);
        } else {
            double tries = beta > 0.0 ? any_of(beta, k) / beta : 0.0, rest = 1.0 - tries / rho;
            // At rho* itself tries is rho, and the rest nothing but rounding.
            float of_p = -(float)tries, least = rest > ACCURACY ? (float)rest : 0.0f;
            auto mass = [&](float d, float t) {
                float q = rows.q(t);
                return fmaxf(fmaf(rows.p(d), of_p, q * SURE), q * least);
            };
            resample(batch, pair, s, rows, k, -1, mass);
        }
    }
    cluster_sync();
}
