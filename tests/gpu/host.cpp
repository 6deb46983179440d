// The kernels' plan code on the host, one lane: reads requests from standard input and answers on standard output, all
// as f64. A request is its number of values, then what is asked, then the arguments; an answer likewise.

#include <cstdint>
#include <cstdio>
#include <vector>

#include "exchange.cuh"
#include "spread.cuh"

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

// Width, anchor, lowest edge, the loss to thin by, masses; then tokens to split.
Answer classes(Request& request) {
    const double width = request.next(), anchor = request.next(), log_lowest = request.next();
    const double loss = request.next();
    const EdgeGrid grid = spanning(width, anchor, log_lowest);
    Answer answer{double(grid.len)};
    if (request.whole() != grid.len) return answer;
    const std::vector<Mass> masses = request.masses(grid.len);
    Room room;
    Edges edges{};
    const Status status = thinned(One{}, grid, masses.data(), loss, room.prefix.data(), room.edges(), edges);
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

// Width, anchor, k, masses of the classes, tokens of the open class; rho, rho by the bounds on beta, by halving and by Newton's
// method, beta.
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
            if (token.p * inverse_above >= token.q && token.p * inverse_here < token.q) sum += discounted(token, 1.0 / rho);
        }
        return smaller(sum, 1.0);
    };
    const double rho = close(bracket, k, beta);
    const double high = close(bracket, k, [&](double rho) { return least_beta(bracket, rho); });
    const double low = close(bracket, k, [&](double rho) { return most_beta(bracket, rho); });
    const double high_root = most_rho(bracket, k, 1e-9), low_root = least_rho(bracket, k, 1e-9);
    return Answer{double(grid.len),
                  rho,
                  high,
                  low,
                  high_root,
                  low_root,
                  any_of(least_beta(bracket, high_root), k) - high_root * least_beta(bracket, high_root),
                  any_of(most_beta(bracket, low_root), k) - low_root * most_beta(bracket, low_root),
                  beta(rho),
                  tries(beta(rho), k)};
}

// Width, anchor, k, masses of the classes; then tokens: what each is selected with, and the labels of a draft on its edges.
Answer optimal(Request& request) {
    const double width = request.next(), anchor = request.next();
    const int k = request.whole();
    const EdgeGrid grid = spanning(width, anchor, -std::log(double(k)));
    if (request.whole() != grid.len) return Answer{double(grid.len)};
    const std::vector<Mass> masses = request.masses(grid.len), tokens = request.masses(request.whole());
    const size_t len = size_t(grid.len);
    std::vector<double> table(len + 32), inverses(len), places(len), lengths(len), densities(len), lacks(len + 1), exceeds(len + 1);
    inverses_of(One{}, grid, table.data(), inverses.data());
    const Edges edges{grid.log_lowest, grid.per_width, grid.len, grid.len, nullptr, inverses.data()};
    Exchange layout{};
    layout.places = places.data(), layout.lengths = lengths.data(), layout.densities = densities.data();
    layout.lacks = lacks.data(), layout.exceeds = exceeds.data();
    exchange(One{}, edges, masses.data(), drafts(k), layout);
    Answer answer{double(grid.len)};
    for (const Mass& token : tokens) {
        const Split on = split(edges, token.p, token.q);
        const int lower = grid.len - 1 - on.lower, upper = larger(lower - 1, 0);
        answer.push_back(on.p_lower * exchanged_density(layout, lower) + on.p_upper * exchanged_density(layout, upper));
        for (const int item : {lower, upper}) {
            const bool has = layout.lengths[item] > 0.0;
            for (const double coin : {0.0, 0.125, 0.625, 0.96875}) {
                answer.push_back(has ? exchanged_label(One{}, layout, item, coin) : -1.0);
            }
        }
    }
    return answer;
}

// A drafted tree: K, the longest path, the vocabulary, width, anchor, lowest edge and loss; for each path its length,
// its nodes and its tokens; for each depth the coins of acceptance and residual, for each path the coins of its edges and
// of its label; the number of nodes, and of each inner one p and q, of each leaf q. The node's place (path and depth)
// and the next token; -1 in place of it where the last node of the path is to be continued by the target.
struct Tree {
    int paths, length, vocab;
    double width, anchor, log_lowest, loss;
    std::vector<int> lengths, nodes, tokens;
    std::vector<double> accept, residual, edge, label;
    std::vector<std::vector<Mass>> rows;
};

Tree tree_of(Request& request) {
    Tree tree;
    tree.paths = request.whole();
    tree.length = request.whole();
    tree.vocab = request.whole();
    tree.width = request.next();
    tree.anchor = request.next();
    tree.log_lowest = request.next();
    tree.loss = request.next();
    const size_t stride = size_t(tree.length) + 1;
    tree.nodes.resize(size_t(tree.paths) * stride, -1);
    tree.tokens.resize(tree.nodes.size(), -1);
    for (size_t path = 0; path < size_t(tree.paths); path++) {
        tree.lengths.push_back(request.whole());
        const size_t length = size_t(tree.lengths.back());
        for (size_t t = 0; t <= length; t++) tree.nodes[path * stride + t] = request.whole();
        for (size_t t = 0; t < length; t++) tree.tokens[path * stride + t] = request.whole();
    }
    for (size_t t = 0; t < stride; t++) {
        tree.accept.push_back(request.next());
        tree.residual.push_back(request.next());
    }
    for (size_t path = 0; path < size_t(tree.paths); path++) {
        for (size_t t = 0; t < stride; t++) tree.edge.push_back(request.next());
        tree.label.push_back(request.next());
    }
    const int nodes = request.whole();
    for (int node = 0; node < nodes; node++) tree.rows.push_back(request.masses(request.whole()));
    return tree;
}

// The cells of a node, counted as the Rust code counts probabilities.
std::vector<Mass> counted(const EdgeGrid& grid, const std::vector<Mass>& row) {
    std::vector<unsigned short> kept;
    std::vector<double> inverses;
    for (int e = 0; e < grid.len; e++) {
        kept.push_back(static_cast<unsigned short>(e));
        inverses.push_back(inverse(grid, e));
    }
    const Edges edges{grid.log_lowest, grid.per_width, grid.len, grid.len, kept.data(), inverses.data()};
    std::vector<Mass> cells(size_t(grid.len), Mass{0.0, 0.0});
    for (const Mass& token : row) {
        if (!(token.p > 0.0 || token.q > 0.0)) continue;
        Mass& cell = cells[size_t(class_of(edges, token.p, token.q))];
        cell.p += token.p;
        cell.q += token.q;
    }
    return cells;
}

template <class MassOf>
int drawn(const std::vector<Mass>& row, double threshold, const MassOf& mass_of, double& cumulative, int found) {
    for (size_t token = 0; token < row.size(); token++) {
        const double mass = mass_of(row[token]);
        if (!(mass > 0.0)) continue;
        cumulative += mass;
        found = int(token);
        if (threshold < cumulative) break;
    }
    return found;
}

// The next token by an edge of a node.
int drawn_on(const NodePlan& plan, const std::vector<Mass>& row, Choice choice) {
    const Edges edges = plan.edges();
    double cumulative = 0.0;
    if (choice.edge < 0) {
        return drawn(row, choice.coin * plan.undrafted, [&](Mass token) {
            return class_of(edges, token.p, token.q) == 0 ? token.q - token.p * edges.inverses[0] : 0.0;
        }, cumulative, -1);
    }
    const double threshold = choice.coin * plan.masses[plan.item_of[choice.edge]].p;
    int found = -1;
    for (int of = choice.edge; of <= choice.edge + 1 && !(threshold < cumulative); of++) {
        found = drawn(row, threshold, [&](Mass token) {
            const bool inside = token.q > 0.0 && class_of(edges, token.p, token.q) == of;
            return inside ? share_on(edges, choice.edge, of, token.p, token.q) : 0.0;
        }, cumulative, found);
    }
    return found;
}

Answer path(Request& request) {
    const Tree tree = tree_of(request);
    const int stride = tree.length + 1;
    const EdgeGrid grid = spanning(tree.width, tree.anchor, tree.log_lowest);
    std::vector<NodePlan> plans(tree.rows.size());
    std::vector<double> prefix(size_t(grid.len));
    std::vector<Mass> merged(MAX_EDGES);
    std::vector<bool> inner(tree.rows.size(), false);
    auto at = [&](int path, int depth) { return size_t(path * stride + depth); };
    for (int path = 0; path < tree.paths; path++) {
        for (int t = 0; t < tree.lengths[size_t(path)]; t++) inner[size_t(tree.nodes[at(path, t)])] = true;
    }
    for (size_t node = 0; node < plans.size(); node++) {
        if (!inner[node]) continue;
        const std::vector<Mass> cells = counted(grid, tree.rows[node]);
        plan_node(One{}, grid, cells.data(), tree.loss, prefix.data(), merged.data(), plans[node]);
        if (plans[node].status != OK) return Answer{};
    }
    std::vector<unsigned short> steps(tree.nodes.size());
    std::vector<Walkers> state(1);
    Walkers& walkers = state[0];
    walkers.paths = tree.paths;
    walkers.alive = (1u << tree.paths) - 1;
    walkers.status = OK;
    for (int path = 0; path < MAX_PATHS; path++) {
        walkers.start(path, path < tree.paths ? tree.lengths[size_t(path)] : 0);
        for (int t = 0; t < walkers.length[path]; t++) {
            const size_t node = size_t(tree.nodes[at(path, t)]);
            const Mass token = tree.rows[node][size_t(tree.tokens[at(path, t)])];
            steps[at(path, t)] = (unsigned short)step_of(plans[node], token.p, token.q, tree.edge[at(path, t)]);
        }
    }
    std::vector<Nest> scratch(1);
    for (int t = 0; t < tree.length; t++) {
        const unsigned before = walkers.alive;
        const bool one = (before & (before - 1)) == 0;
        for (int w = 0; w < tree.paths; w++) {
            if (!walkers.steps(w, t) || walkers.leader[w] != w) continue;
            descend(One{}, plans[size_t(tree.nodes[at(w, t)])], w, t, drafts(tree.paths), steps.data(), stride,
                    tree.accept[size_t(t)], tree.residual[size_t(t)], one && t + 1 == walkers.length[w], scratch[0], walkers);
        }
        if (walkers.status != OK) return Answer{};
        if (one) continue;
        unsigned after = 0;
        for (int w = 0; w < tree.paths; w++) {
            if ((before >> w & 1u) && may_win(walkers, w)) after |= 1u << w;
        }
        walkers.alive = after;
        int leaders[MAX_PATHS];
        for (int w = 0; w < tree.paths; w++) {
            leaders[w] = walkers.steps(w, t + 1) ? leader_of(walkers, w, t, tree.nodes.data(), stride) : w;
        }
        for (int w = 0; w < tree.paths; w++) walkers.leader[w] = leaders[w];
    }
    const int winner = winner_of(walkers, [&](int w) { return tree.label[size_t(w)]; });
    const int length = walkers.length[winner];
    if (tree.accept[size_t(length)] < walkers.weight[winner]) return Answer{double(winner), double(length), -1.0};
    const Stop stop = walkers.stop[winner];
    if (stop.depth < 0) return Answer{};
    const size_t node = size_t(tree.nodes[at(winner, stop.depth)]);
    return Answer{double(winner), double(stop.depth), double(drawn_on(plans[node], tree.rows[node], stop.choice))};
}

// What the spread coupling does with it.
Answer spread(Request& request) {
    const Tree tree = tree_of(request);
    const int stride = tree.length + 1;
    const EdgeGrid grid = spanning(tree.width, tree.anchor, tree.log_lowest);
    std::vector<NodePlan> plans(tree.rows.size());
    std::vector<double> prefix(size_t(grid.len));
    std::vector<Mass> merged(MAX_EDGES);
    struct State {
        double weight = 1.0;
        bool reached = false, settled = false, laid_out = false;
        Piece few[FEW_PIECES];
        Label many;
        LabelView label;
        Spread spread;
    };
    std::vector<State> states(tree.rows.size());
    std::vector<SpreadRoom> room(1);
    auto at = [&](int path, int depth) { return size_t(path * stride + depth); };
    states[0].label = all_labels(states[0].few);
    states[0].reached = true;
    int most = 0;
    for (int path = 0; path < tree.paths; path++) {
        for (int t = 0; t < tree.lengths[size_t(path)]; t++) {
            const size_t node = size_t(tree.nodes[at(path, t)]), child = size_t(tree.nodes[at(path, t + 1)]);
            State& here = states[node];
            State& after = states[child];
            const Mass token = tree.rows[node][size_t(tree.tokens[at(path, t)])];
            if (after.reached) continue;
            after.reached = true;
            if (here.settled) {
                after.settled = true;
                after.label = here.label;
                after.weight = accept_probability(here.weight * token.q, token.p, 1e-13);
                continue;
            }
            NodePlan& plan = plans[node];
            if (!here.laid_out) {
                const std::vector<Mass> cells = counted(grid, tree.rows[node]);
                plan_node(One{}, grid, cells.data(), tree.loss, prefix.data(), merged.data(), plan);
                if (plan.status != OK) return Answer{};
                spread_out(One{}, here.label, plan.masses, plan.count, here.weight, drafts(tree.paths), room[0].laying,
                           here.spread, plan.gains);
                here.laid_out = true;
            }
            const TokenItems items = items_of_token(plan, token.p, token.q);
            after.weight = accept_probability(here.weight * token.q, selected(items, plan.gains), 1e-13);
            after.settled = after.weight < LEAST_WEIGHT;
            after.label = label_after(One{}, here.label, here.spread, items, token.p, room[0].parting, after.few, after.many);
            if (after.label.count == 0) return Answer{};
            most = larger(most, after.label.count);
        }
    }
    int winner = 0;
    double best = -1.0;
    for (int path = 0; path < tree.paths; path++) {
        const double label = label_at(states[size_t(tree.nodes[at(path, tree.lengths[size_t(path)])])].label, tree.label[size_t(path)]);
        if (label > best) {
            best = label;
            winner = path;
        }
    }
    const int length = tree.lengths[size_t(winner)];
    const size_t leaf = size_t(tree.nodes[at(winner, length)]);
    if (tree.accept[size_t(length)] < states[leaf].weight) return Answer{double(winner), double(length), -1.0, double(most)};
    for (int t = length - 1; t >= 0; t--) {
        const size_t node = size_t(tree.nodes[at(winner, t)]);
        const std::vector<Mass>& row = tree.rows[node];
        const NodePlan& plan = plans[node];
        const double weight = states[node].weight;
        const bool by_class = states[node].laid_out;
        Left left{0.0, -1, Bounds{0.0, 0.0}};
        double open = 0.0, cumulative = 0.0;
        auto mass_in = [&](int of, Mass token) {
            const bool inside = token.q > 0.0 && class_of(plan.edges(), token.p, token.q) == of;
            const Mass excess = excess_of(plan, plan.gains, weight, of);
            return inside ? larger(excess.q * token.q + excess.p * token.p, 0.0) : 0.0;
        };
        auto mass = [&](Mass token) { return larger(weight * token.q - token.p, 0.0); };
        if (by_class) {
            left = left_of(One{}, plan, plan.gains, weight);
            if (left.open >= 0) {
                for (const Mass& token : row) open += mass_in(left.open, token);
                if (!(left.bounds.least <= open + 1e-12 && open <= left.bounds.most + 1e-12)) return Answer{};
            }
            // The known classes are what their tokens add up to.
            double sum = 0.0;
            for (const Mass& token : row) {
                if (!(token.q > 0.0)) continue;
                const int of = class_of(plan.edges(), token.p, token.q);
                if (of != left.open) sum += mass_in(of, token);
            }
            if (!(fabs(sum - left.known) <= 1e-10)) return Answer{};
        } else {
            for (const Mass& token : row) open += mass(token);
        }
        const double total = left.known + open;
        if (!(tree.accept[size_t(t)] < keep_probability(total, weight))) continue;
        int token;
        if (by_class) {
            const ClassChoice choice =
                class_at(One{}, plan, plan.gains, weight, left.open, open, tree.residual[size_t(t)] * total);
            token = drawn(row, choice.threshold, [&](Mass token) { return mass_in(choice.of, token); }, cumulative, -1);
        } else {
            token = drawn(row, tree.residual[size_t(t)] * total, mass, cumulative, -1);
        }
        return Answer{double(winner), double(t), double(token), double(most)};
    }
    return Answer{};
}

// The same for one path by block verification. After the answer: how many decisions the cells alone did not settle.
Answer chain(Request& request) {
    const Tree tree = tree_of(request);
    const EdgeGrid grid = spanning(tree.width, tree.anchor, tree.log_lowest);
    const int length = tree.lengths[0];
    std::vector<double> weights{1.0};
    for (size_t t = 0; t < size_t(length); t++) {
        const Mass token = tree.rows[size_t(tree.nodes[t])][size_t(tree.tokens[t])];
        weights.push_back(accept_probability(weights[t] * token.q, token.p, 1e-13));
    }
    if (tree.accept[size_t(length)] < weights[size_t(length)]) return Answer{0.0, double(length), -1.0, 0.0};
    int undecided = 0;
    for (int t = length - 1; t >= 0; t--) {
        const std::vector<Mass>& row = tree.rows[size_t(tree.nodes[size_t(t)])];
        const double weight = weights[size_t(t)];
        const std::vector<Mass> cells = counted(grid, row);
        const Bounds bounds = residual_bounds(One{}, grid, [&](int c) { return cells[size_t(c)]; }, weight);
        auto mass = [&](Mass token) { return larger(weight * token.q - token.p, 0.0); };
        double total = 0.0;
        for (const Mass& token : row) total += mass(token);
        if (!(bounds.least <= total + 1e-13 && total <= bounds.most + 1e-13)) return Answer{};
        Decision decision = keeps(bounds, weight, tree.accept[size_t(t)]);
        if (decision == UNDECIDED) {
            undecided += 1;
            decision = tree.accept[size_t(t)] < keep_probability(total, weight) ? YES : NO;
        }
        if (decision == NO) continue;
        double cumulative = 0.0;
        const int token = drawn(row, tree.residual[size_t(t)] * total, mass, cumulative, -1);
        return Answer{0.0, double(t), double(token), double(undecided)};
    }
    return Answer{};
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
            case 5: answer = path(request); break;
            case 6: answer = chain(request); break;
            case 7: answer = spread(request); break;
            default: return 2;
        }
        const double size = double(answer.size());
        std::fwrite(&size, sizeof size, 1, stdout);
        std::fwrite(answer.data(), sizeof(double), answer.size(), stdout);
        std::fflush(stdout);
    }
    return 0;
}
