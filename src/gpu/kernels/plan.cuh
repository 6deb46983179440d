// What each rule makes of the masses of the ratio classes: the functions of src/kseq.rs, src/optimal.rs and
// src/path/coupling.rs, by the names that they have there.
//
// The numbers are those of the Rust code but for the order of sums over a team of several lanes, fused
// multiply–additions and the last digit of exp and log. `tests.rs` beside this file builds it with a C++ compiler and
// states how far they are apart: 1e-12 for masses, 1e-9 for labels, 1e-10 for rho.

#pragma once

#include "layout.cuh"

namespace draftpick {

// min(1, q/m): the probability of accepting a token of target probability q that was selected with probability m.
DRAFTPICK_DEVICE double accept_probability(double q, double m, double accuracy) {
    if (q >= m * (1.0 - accuracy) && q > 0.0) return 1.0;
    return q > 0.0 ? q / m : 0.0;
}

// h_t of block verification, for the S_t and P_t of an inner node.
DRAFTPICK_DEVICE double keep_probability(double residual, double weight) {
    return residual > 0.0 ? residual / (residual + (1.0 - weight)) : 0.0;
}

// --- k-SEQ -----------------------------------------------------------------------------------------------------------

// 1 − (1 − x)^k, by sums of what is not negative: a_2n = a_n(2 − a_n) and a_(n+1) = a_n + x(1 − a_n).
DRAFTPICK_DEVICE double any_of(double x, int k) {
    x = smaller(x, 1.0);
    double any = x;
    int digit = 1;
    while (2 * digit <= k) digit *= 2;
    while ((digit /= 2) > 0) {
        any *= 2.0 - any;
        if (k & digit) any += x * (1.0 - any);
    }
    return any;
}

// An interval that holds rho*, and what beta is inside it:
// beta(rho) = whole + discounted/rho + Σ min(p, q/rho) over the tokens of one class of the grid.
struct Bracket {
    double lower, upper, whole, discounted;
    // The class whose ratios q/p are those of the interval.
    int open;
    // What the tokens of the class sum to, and that sum as a mixture on the class's two edges.
    Mass masses, on_lower, on_upper;
};

// An excess p_acc − rho·beta that is rounding of 0. The Rust code adds with compensation and allows 4 roundings; here a
// sum is of a thousand terms.
constexpr double ROUNDING = 64.0 * EPSILON;

// Whether rho is at or above the root of p_acc(rho) = rho·beta(rho), given beta(rho).
DRAFTPICK_DEVICE bool is_valid(double rho, double beta, int k) { return any_of(beta, k) - rho * beta <= ROUNDING; }

// The class of a grid that covers the ratios p/q from 1/k up in which rho* lies. The masses of the classes count by their
// shares of all. `prefix` is scratch for `grid.len` pairs.
template <class Team>
DRAFTPICK_DEVICE Bracket kseq_bracket(const Team& team, const EdgeGrid& grid, const Mass* classes, int k, Mass* prefix) {
    // prefix[c]: the draft mass of the classes up to c, and the target mass of those above.
    const int stretch = (grid.len + Team::LANES - 1) / Team::LANES;
    const int from = smaller(team.lane() * stretch, grid.len), to = smaller(from + stretch, grid.len);
    double p = 0.0, q = 0.0, p_all, q_all;
    for (int c = from; c < to; c++) p += classes[c].p, q += classes[c].q;
    double p_below = p, q_below = q;
    team.scan(p_below, q_below, p_all, q_all);
    p_below -= p, q_below -= q;
    const double per_p = 1.0 / p_all, per_q = 1.0 / q_all;
    for (int c = from; c < to; c++) {
        p_below += classes[c].p, q_below += classes[c].q;
        prefix[c] = Mass{p_below * per_p, (q_all - q_below) * per_q};
    }
    team.sync();
    // The edges whose rho is in [1, k], highest first: what is below an edge counts whole, what is above it discounted.
    // An edge at k or above is valid.
    auto valid = [&](int edge) {
        const double rho = inverse(grid, edge);
        return is_valid(rho, smaller(prefix[edge].p + prefix[edge].q / rho, 1.0), k);
    };
    int low = larger(int(ceil((-log(double(k)) - grid.log_lowest) * grid.per_width)), 1);
    int high = larger(int(floor(-grid.log_lowest * grid.per_width)) + 1, low);
    high = smaller(high, grid.len - 1);
    // The first edge that is not valid, or the first below 1.
    while (low < high) {
        const int step = (high - low + 1 + Team::LANES) / (Team::LANES + 1);
        const int edge = low + (team.lane() + 1) * step - 1;
        const int found = team.first(edge >= high || !valid(edge));
        if (found < Team::LANES) high = smaller(low + (found + 1) * step - 1, high);
        low = smaller(low + found * step, high);
    }
    Bracket bracket;
    const double above = inverse(grid, low - 1), here = inverse(grid, low);
    bracket.open = low;
    bracket.lower = clamped(here, 1.0, double(k));
    bracket.upper = clamped(above, 1.0, double(k));
    bracket.whole = prefix[low - 1].p;
    bracket.discounted = prefix[low].q;
    bracket.masses = Mass{classes[low].p * per_p, classes[low].q * per_q};
    const double p_upper = clamped((bracket.masses.p * above - bracket.masses.q) / (above - here), 0.0, bracket.masses.p);
    const double p_lower = bracket.masses.p - p_upper;
    bracket.on_lower = Mass{p_lower, p_lower * above};
    bracket.on_upper = Mass{p_upper, p_upper * here};
    return bracket;
}

DRAFTPICK_DEVICE double discounted(Mass token, double per_rho) { return smaller(token.p, token.q * per_rho); }

// beta is at most what it is with all tokens of the open class at one ratio, and at least what it is with them at the
// ends of the class: min(p, q/rho) is concave.
DRAFTPICK_DEVICE double most_beta(const Bracket& bracket, double rho) {
    const double per_rho = 1.0 / rho;
    return smaller(bracket.whole + bracket.discounted * per_rho + discounted(bracket.masses, per_rho), 1.0);
}
DRAFTPICK_DEVICE double least_beta(const Bracket& bracket, double rho) {
    const double per_rho = 1.0 / rho;
    const double open = discounted(bracket.on_lower, per_rho) + discounted(bracket.on_upper, per_rho);
    return smaller(bracket.whole + bracket.discounted * per_rho + open, 1.0);
}

// The smallest valid rho of a bracket: bisection until the ends are neighbouring numbers.
template <class Beta>
DRAFTPICK_DEVICE double close(const Bracket& bracket, int k, const Beta& beta) {
    double lower = bracket.lower, upper = bracket.upper;
    if (is_valid(lower, beta(lower), k)) return lower;
    for (;;) {
        const double rho = 0.5 * (lower + upper);
        if (!(rho > lower && rho < upper)) return upper;
        if (is_valid(rho, beta(rho), k)) {
            upper = rho;
        } else {
            lower = rho;
        }
    }
}

// The root of p_acc(rho) = rho·beta(rho) in an interval that holds it, to about `precision` of itself, where
// beta(rho) = whole + discounted/rho: Newton's method, halving the interval where that leaves it.
DRAFTPICK_DEVICE double root(double whole, double discounted, double lower, double upper, int k, double precision) {
    double rho = lower;
    for (int step = 0; step < 64; step++) {
        const double per_rho = 1.0 / rho, of_rho = discounted * per_rho, beta = smaller(whole + of_rho, 1.0);
        const double excess = any_of(beta, k) - rho * beta - ROUNDING;
        if (excess <= 0.0) {
            if (step == 0) return rho;
            upper = rho;
        } else {
            lower = rho;
        }
        // (1 − beta)^(k − 1)
        double power = 1.0, square = 1.0 - beta;
        for (int digits = k - 1; digits > 0; digits >>= 1, square *= square) power *= digits & 1 ? square : 1.0;
        double next = rho + excess / (double(k) * power * of_rho * per_rho + whole);
        if (!(next >= lower && next <= upper)) next = 0.5 * (lower + upper);
        if (fabs(next - rho) <= precision * rho) return next;
        rho = next;
    }
    return upper;
}

// What rho* is at most, and at least: by the two bounds on beta.
DRAFTPICK_DEVICE double most_rho(const Bracket& bracket, int k, double precision) {
    return root(
        bracket.whole + bracket.on_lower.p, bracket.discounted + bracket.on_upper.q, bracket.lower, bracket.upper, k, precision
    );
}
DRAFTPICK_DEVICE double least_rho(const Bracket& bracket, int k, double precision) {
    // All tokens of the class are at one ratio: below it they count whole, above it discounted.
    const double kink = clamped(bracket.masses.p > 0.0 ? bracket.masses.q / bracket.masses.p : 0.0, bracket.lower, bracket.upper);
    return is_valid(kink, most_beta(bracket, kink), k)
               ? root(bracket.whole + bracket.masses.p, bracket.discounted, bracket.lower, kink, k, precision)
               : root(bracket.whole, bracket.discounted + bracket.masses.q, kink, bracket.upper, k, precision);
}

// p_acc/beta, what a draft's discounted mass is worth after k tries.
DRAFTPICK_DEVICE double tries(double beta, int k) { return beta > 0.0 ? any_of(beta, k) / beta : 0.0; }

// --- the path coupling -----------------------------------------------------------------------------------------------

// A region of vanishing length, made longer: only the proportions of the lengths matter.
DRAFTPICK_DEVICE double stretch(double length) { return length < 1e-100 ? 1e70 : 1.0; }

// A node's next tokens laid out over a region of `segments` segments, which are stretched in place if need be. `scaled`
// has room for the items. Afterwards `layout.masses` is the law a of the winner on the items.
template <class Team>
DRAFTPICK_CALL void nest(
    const Team& team, Segment* base, int segments, const Items& items, Drafts n, Mass* scaled, Layout& layout
) {
    double length = length_of(base, segments);
    const double factor = stretch(length);
    if (factor != 1.0) {
        team.sync();
        for (int s = team.lane(); s < segments; s += Team::LANES) base[s].len *= factor;
        team.sync();
        length = length_of(base, segments);
    }
    for (int i = team.lane(); i < items.count; i += Team::LANES) {
        scaled[i] = Mass{items.masses[i].p * length, items.masses[i].q};
    }
    layout.count = items.count;
    layout.items = scaled;
    team.sync();
    lay_out(team, base, segments, n, layout);
    double total = 0.0;
    for (int i = team.lane(); i < layout.count; i += Team::LANES) total += layout.masses[i];
    total = team.sum(total);
    team.sync();
    for (int i = team.lane(); i < layout.count; i += Team::LANES) layout.masses[i] /= total;
    team.sync();
}

// (P_t·q − a)₊ of an item.
DRAFTPICK_DEVICE double residual_of(const Layout& layout, int item, double weight) {
    return larger(weight * layout.items[item].q - layout.masses[item], 0.0);
}

// S_t: `undrafted` is the target mass on ratio 0.
template <class Team>
DRAFTPICK_DEVICE double residual(const Team& team, const Layout& layout, double weight, double undrafted) {
    double sum = 0.0;
    for (int i = team.lane(); i < layout.count; i += Team::LANES) sum += residual_of(layout, i, weight);
    return team.sum(sum) + weight * undrafted;
}

// What the next token is drawn from: the tokens of an edge, −1 for those of ratio 0, by the share `coin` of their mass.
struct Choice {
    int edge;
    double coin;
};

// The edge that the coin picks by (P_t·q − a)₊, whose sum is `total`.
template <class Team>
DRAFTPICK_DEVICE Choice choose(
    const Team& team, const Items& items, const Layout& layout, double weight, double undrafted, double total, double coin
) {
    const double last = 1.0 - 0.5 * EPSILON;
    const double threshold = coin * total, below = weight * undrafted;
    auto share = [&](double part, double mass) {
        const double share = part / mass;
        return share >= 0.0 && share < 1.0 ? share : last;
    };
    if (threshold < below) return Choice{-1, share(threshold, below)};
    double cumulative = below;
    int highest = -1;
    for (int start = 0; start < layout.count; start += Team::LANES) {
        const int i = start + team.lane();
        const double mass = i < layout.count ? residual_of(layout, i, weight) : 0.0;
        const double before = cumulative + (team.scan(mass) - mass);
        const int found = team.first(mass > 0.0 && threshold < before + mass);
        if (found < Team::LANES) {
            const double part = larger(threshold - team.from(before, found), 0.0);
            return Choice{items.edge_of[start + found], share(part, team.from(mass, found))};
        }
        highest = larger(highest, int(team.max(mass > 0.0 ? double(i) : -1.0)));
        cumulative = team.from(before + mass, Team::LANES - 1);
    }
    return highest >= 0 ? Choice{items.edge_of[highest], last} : Choice{-1, last};
}

// What a token of masses (p, q) and of class `of` contributes to the draft mass of an edge.
DRAFTPICK_DEVICE double share_on(const Edges& edges, int edge, int of, double p, double q) {
    const Split split = split_sum(edges, of, p, q);
    return split.lower == edge ? split.p_lower : split.p_upper;
}

}  // namespace draftpick
