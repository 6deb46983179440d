// The kernel of filter.cu on the host: reads calls from standard input and answers on standard output, all as f64. A call is
// its number of values, then: blocks of a cluster, 1 if the parameters are arrays, the row's stride, filters, the number of
// rows; for each filter its row, scale, k, p and m; then the rows, `stride` bit patterns each. An answer is threshold, tie and
// flags of each filter.

#include "filter.cu"

int main() {
    double count;
    while (std::fread(&count, sizeof count, 1, stdin) == 1) {
        std::vector<double> values(static_cast<size_t>(count));
        if (std::fread(values.data(), sizeof(double), values.size(), stdin) != values.size()) return 1;
        size_t at = 0;
        auto next = [&] { return values.at(at++); };
        const int blocks = int(next());
        const bool arrays = next() != 0.0;
        const int vocab = int(next()), stride = int(next()), filters = int(next()), row_count = int(next());
        std::vector<int> rows, top_k, tie(static_cast<size_t>(filters), 77), flags = tie;
        std::vector<float> scale, top_p, min_p, least(static_cast<size_t>(filters), 77.0f);
        for (int i = 0; i < filters; i++) {
            rows.push_back(int(next()));
            scale.push_back(float(next()));
            top_k.push_back(int(next()));
            top_p.push_back(float(next()));
            min_p.push_back(float(next()));
        }
        // From a multiple of 16 bytes on.
        std::vector<Logit> room(values.size() - at + 16);
        Logit* logits = room.data();
        while (reinterpret_cast<uintptr_t>(logits) % 16 != 0) logits++;
        for (Logit* logit = logits; at < values.size(); logit++) {
#if DTYPE == 0
            *logit = number_of(unsigned(next()));
#else
            *logit = Logit(next());
#endif
        }
        Filters call{};
        call.logits = logits;
        call.stride = stride;
        call.row_count = row_count;
        call.rows = rows.data();
        call.scale = scale.data();
        if (arrays) {
            call.top_k = top_k.data(), call.top_p = top_p.data(), call.min_p = min_p.data();
        } else {
            call.all_k = top_k[0], call.all_p = top_p[0], call.all_m = min_p[0];
        }
        call.least = least.data();
        call.tie = tie.data();
        call.flags = flags.data();
        call.count = filters;
        call.vocab = vocab;
        call.chunk = ((vocab + blocks - 1) / blocks + 7) / 8 * 8;
        const size_t chunk = size_t((call.chunk + TILE - 1) / TILE * TILE) * sizeof(Logit);
        const size_t shared = COMMON_BYTES + size_t(BINS / blocks) * sizeof(Weight) + (RESIDENT ? chunk : 0);
        simt::launch(unsigned(filters), unsigned(blocks), shared, [&] { filter_rows(call); });
        std::vector<double> answer;
        for (size_t i = 0; i < size_t(filters); i++) {
            answer.insert(answer.end(), {double(least[i]), double(tie[i]), double(flags[i])});
        }
        const double size = double(answer.size());
        std::fwrite(&size, sizeof size, 1, stdout);
        std::fwrite(answer.data(), sizeof(double), answer.size(), stdout);
        std::fflush(stdout);
    }
    return 0;
}
