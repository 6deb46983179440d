// The kernels' plan code on the host, one lane: reads requests from standard input and answers on standard output, all
// as f64. A request is its number of values, then what is asked, then the arguments; an answer likewise.

#include <cstdint>
#include <cstdio>
#include <vector>

#include "plan.cuh"

using namespace draftpick;

namespace {

constexpr int CAPACITY = 2048;

struct Request {
    std::vector<double> values;
    size_t at = 0;
    double next() { return values.at(at++); }
    int whole() { return int(next()); }
    std::vector<Mass> masses(int count) {
        std::vector<Mass> found(static_cast<size_t>(count));
        for (Mass& mass : found) {
            mass.p = next();
            mass.q = next();
        }
        return found;
    }
};

using Answer = std::vector<double>;

struct Room {
    std::vector<unsigned short> kept = std::vector<unsigned short>(CAPACITY);
    std::vector<double> inverses = std::vector<double>(CAPACITY), prefix = std::vector<double>(CAPACITY);
    std::vector<Mass> classes = std::vector<Mass>(CAPACITY), masses = std::vector<Mass>(CAPACITY);
    std::vector<unsigned short> edge_of = std::vector<unsigned short>(CAPACITY), item_of = edge_of;
    EdgeRoom edges() { return EdgeRoom{kept.data(), inverses.data(), classes.data(), CAPACITY}; }
    Items items() { return Items{0, masses.data(), edge_of.data(), item_of.data()}; }
};

struct LayoutRoom {
    std::vector<Cut> cuts = std::vector<Cut>(CAPACITY + 1);
    std::vector<double> masses = std::vector<double>(CAPACITY), block_masses = masses, slopes = masses;
    std::vector<unsigned short> starts = std::vector<unsigned short>(CAPACITY + 1), block_of = starts;
    std::vector<Segment> free = std::vector<Segment>(2 * CAPACITY), window = free;
    Layout layout(const std::vector<Mass>& items) {
        Layout layout;
        layout.count = int(items.size());
        layout.items = items.data();
        layout.cuts = cuts.data();
        layout.masses = masses.data();
        layout.block_masses = block_masses.data();
        layout.slopes = slopes.data();
        layout.starts = starts.data();
        layout.block_of = block_of.data();
        return layout;
    }
    Windows windows() {
        Windows windows;
        windows.free = free.data();
        windows.capacity = 2 * CAPACITY;
        windows.window = window.data();
        windows.ring = 2 * CAPACITY;
        windows.full = false;
        return windows;
    }
};

void put(Answer& answer, const Edges& edges, const Room& room, const Items& items) {
    answer.push_back(edges.len);
    for (int e = 0; e < edges.len; e++) answer.push_back(edges.inverses[e]);
    for (int c = 0; c < edges.len; c++) {
        answer.push_back(room.classes[size_t(c)].p);
        answer.push_back(room.classes[size_t(c)].q);
    }
    answer.push_back(items.count);
    for (int i = 0; i < items.count; i++) {
        answer.push_back(items.masses[i].p);
        answer.push_back(items.masses[i].q);
        answer.push_back(items.edge_of[i]);
    }
    for (int e = 0; e < edges.len; e++) answer.push_back(items.item_of[e]);
    answer.push_back(undrafted(edges, room.classes.data()));
}

// Width, anchor, lowest edge, k (0: thinned by the loss that follows; else coarsened), masses; then tokens to split.
Answer classes(Request& request) {
    const double width = request.next(), anchor = request.next(), log_lowest = request.next();
    const int k = request.whole();
    const double loss = request.next();
    const EdgeGrid grid = spanning(width, anchor, log_lowest);
    Answer answer{double(grid.len)};
    if (request.whole() != grid.len) return answer;
    const std::vector<Mass> masses = request.masses(grid.len);
    Room room;
    Edges edges{};
    const Status status = k == 0
        ? thinned(One{}, grid, masses.data(), loss, room.prefix.data(), room.edges(), edges)
        : coarsened(One{}, grid, masses.data(), k, room.edges(), edges);
    if (status != OK) return answer;
    Items items = room.items();
    items_of(One{}, edges, room.classes.data(), items);
    put(answer, edges, room, items);
    for (const Mass& token : request.masses(request.whole())) {
        const Split on = split(edges, token.p, token.q);
        answer.insert(answer.end(), {double(on.lower), on.p_lower, on.p_upper});
    }
    return answer;
}

// k, segments of the base, items, a coin; the items' masses, then each region's length, mass and label.
Answer layout(Request& request) {
    const Drafts n = drafts(request.whole());
    const std::vector<Mass> pairs = request.masses(request.whole());
    std::vector<Segment> base;
    for (const Mass& pair : pairs) base.push_back(Segment{pair.p, pair.q});
    const std::vector<Mass> items = request.masses(request.whole());
    const double coin = request.next();
    LayoutRoom room;
    Layout layout = room.layout(items);
    lay_out(One{}, base.data(), int(base.size()), n, layout);
    Answer answer(room.masses.begin(), room.masses.begin() + layout.count);
    answer.resize(items.size() * 4);
    int most = 0;
    for (int b = 0; b < layout.blocks; b++) {
        Windows windows = room.windows();
        cut_windows(base.data(), layout, n, b, layout.starts[b], windows, [&](int i, Windows& window) {
            std::vector<Segment> region;
            for (int s = 0; s < window.count; s++) region.push_back(window.at(s));
            const size_t at = items.size() + 3 * size_t(i);
            answer[at] = length_of(region.data(), window.count);
            answer[at + 1] = window.window_mass(n);
            answer[at + 2] = label_in(region.data(), window.count, coin);
            most = larger(most, window.count);
        });
        if (windows.full) return Answer{};
    }
    answer.push_back(most);
    return answer;
}

// Width, anchor, k, masses of the classes, tokens of the open class; the class, rho, rho by the bounds on beta, beta.
Answer kseq(Request& request) {
    const double width = request.next(), anchor = request.next();
    const int k = request.whole();
    const EdgeGrid grid = spanning(width, anchor, -std::log(double(k)));
    if (request.whole() != grid.len) return Answer{double(grid.len)};
    const std::vector<Mass> masses = request.masses(grid.len), tokens = request.masses(request.whole());
    std::vector<Mass> prefix(static_cast<size_t>(grid.len));
    const Bracket bracket = kseq_bracket(One{}, grid, masses.data(), k, prefix.data());
    auto beta = [&](double rho) {
        double sum = bracket.whole + bracket.discounted / rho;
        for (const Mass& token : tokens) {
            const double inverse_above = inverse(grid, bracket.open - 1), inverse_here = inverse(grid, bracket.open);
            if (token.p * inverse_above >= token.q && token.p * inverse_here < token.q) sum += discounted(token, rho);
        }
        return smaller(sum, 1.0);
    };
    const double rho = close(One{}, bracket, k, beta);
    const double high = close(One{}, bracket, k, [&](double rho) { return least_beta(bracket, rho); });
    const double low = close(One{}, bracket, k, [&](double rho) { return most_beta(bracket, rho); });
    return Answer{double(grid.len), rho, high, low, beta(rho), tries(beta(rho), k)};
}

// Width, anchor, k, masses of the classes; then tokens: what each is selected with, the sign of its class, and its place.
Answer optimal(Request& request) {
    const double width = request.next(), anchor = request.next();
    const int k = request.whole();
    const EdgeGrid grid = spanning(width, anchor, -std::log(double(k)));
    if (request.whole() != grid.len) return Answer{double(grid.len)};
    const std::vector<Mass> masses = request.masses(grid.len), tokens = request.masses(request.whole());
    Room room;
    Edges edges{};
    if (coarsened(One{}, grid, masses.data(), k, room.edges(), edges) != OK) return Answer{double(grid.len)};
    Items items = room.items();
    items_of(One{}, edges, room.classes.data(), items);
    LayoutRoom rest;
    Layout layout = rest.layout(std::vector<Mass>());
    Segment unit{0.0, 1.0};
    layout.count = items.count;
    layout.items = items.masses;
    lay_out(One{}, &unit, 1, drafts(k), layout);
    Answer answer{double(grid.len)};
    for (const Mass& token : tokens) {
        const int of = class_of(edges, token.p, token.q);
        answer.push_back(selected_of(edges, items, layout, of, token.p, token.q));
        answer.push_back(double(sign_of(edges, room.classes.data(), items, layout, of)));
        const Place place = placed(edges, items, token.p, token.q, 0.625);
        // The label, its block cut no further than needed.
        Windows windows = rest.windows();
        double label = -1.0;
        cut_windows(&unit, layout, drafts(k), layout.block_of[place.item], place.item, windows, [&](int i, Windows& window) {
            std::vector<Segment> region;
            for (int s = 0; s < window.count; s++) region.push_back(window.at(s));
            if (i == place.item) label = label_in(region.data(), window.count, place.share);
        });
        answer.push_back(label);
    }
    return answer;
}

}  // namespace

int main() {
    double count;
    while (std::fread(&count, sizeof count, 1, stdin) == 1) {
        Request request;
        request.values.resize(size_t(count));
        if (std::fread(request.values.data(), sizeof(double), request.values.size(), stdin) != request.values.size()) {
            return 1;
        }
        Answer answer;
        switch (request.whole()) {
            case 1: answer = classes(request); break;
            case 2: answer = layout(request); break;
            case 3: answer = kseq(request); break;
            case 4: answer = optimal(request); break;
            default: return 2;
        }
        const double size = double(answer.size());
        std::fwrite(&size, sizeof size, 1, stdout);
        std::fwrite(answer.data(), sizeof(double), answer.size(), stdout);
        std::fflush(stdout);
    }
    return 0;
}
