// The spread coupling of one drafted tree: src/path/spread/ over arrays of fixed capacity, by the names that it has there.
//
// Each node has a law of labels and `P_t`. A node is laid out once, whatever paths go through it, by sums over its items;
// after that its children are independent of each other. The sum of the residual is known class by class but for one
// class, where it lies between two bounds: that one is added up token by token, and only if a coin falls in between, or
// if the next token may be in it.

#pragma once

#include "path.cuh"

namespace draftpick {

// The pieces of a law of labels. Trees of paths of 32 tokens had 226 at most, of 8 tokens 74.
constexpr int MAX_PIECES = 512;
// Stretches of places of a node: each that is not the last divides its items in two.
constexpr int MAX_STRETCHES = 2 * MAX_EDGES;
// Stretches of a token: those around each of its two items.
constexpr int MAX_AROUND = 2 * MAX_EDGES;
// Where the winner is kept less often the next tokens all have the node's law of labels.
constexpr double LEAST_WEIGHT = 0.01;
// Below this share of its own size a difference is rounding.
constexpr double SPREAD_ROUNDING = 1e-12;

// Labels over which a law is even: the share of the law on them, and on them and all below.
struct Piece {
    Segment segment;
    double mass, upto;
};

// Room for a law of labels.
struct Label {
    Piece pieces[MAX_PIECES];
};

// A law of labels, from the lowest up.
struct LabelView {
    const Piece* pieces;
    int count;
};

// All labels alike.
DRAFTPICK_DEVICE LabelView all_labels(Piece* few) {
    few[0] = Piece{Segment{0.0, 1.0}, 1.0, 1.0};
    return LabelView{few, 1};
}

// The piece of a place, a number in [0, 1).
DRAFTPICK_DEVICE int piece_at(const LabelView& label, double place) {
    int low = 0, high = label.count - 1;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (label.pieces[middle].upto > place) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

DRAFTPICK_DEVICE double highest_label(const LabelView& label) { return top(label.pieces[label.count - 1].segment); }

// The label at the place `coin`.
DRAFTPICK_DEVICE double label_at(const LabelView& label, double coin) {
    const Piece here = label.pieces[piece_at(label, coin)];
    const double at = coin - (here.upto - here.mass);
    if (!(coin < here.upto)) return highest_label(label);
    return here.segment.lo + larger(at, 0.0) / here.mass * here.segment.len;
}

// Walks over `len` places from `place` on and calls `visit` with what is passed of each piece: its labels, and how many
// places.
template <class Visit>
DRAFTPICK_DEVICE void pass(const LabelView& label, double place, double len, const Visit& visit) {
    int piece = piece_at(label, place);
    double left = len;
    bool is_first = true;
    for (;;) {
        const Piece here = label.pieces[piece];
        const double at = is_first ? clamped(place - (here.upto - here.mass), 0.0, here.mass) : 0.0;
        const bool is_last = piece + 1 == label.count;
        const double taken = is_last ? left : smaller(left, here.mass - at);
        // Rounding may step over the piece's end.
        const double from = is_first ? smaller(ratio(at, here.mass), 1.0) : 0.0;
        const double share = smaller(ratio(taken, here.mass), 1.0 - from);
        visit(Segment{here.segment.lo + from * here.segment.len, share * here.segment.len}, taken);
        left -= taken;
        if (is_last || !(left > 0.0)) return;
        piece += 1;
        is_first = false;
    }
}

// --- a node's layout -------------------------------------------------------------------------------------------------

enum BoundKind : int { AT_LEAST, AT_MOST, EXACTLY };

// Items still to be spread, at the first of them.
struct Task {
    double lo;          // where their places begin
    double of_q, of_p;  // the bound of_q*q - of_p*p
    double left;        // what is left of their laws
    double gained;      // the gain from what is not
    short end, parent;
    int bound;
};

// Places over which items have a share of their laws, inside the stretch `parent`, -1 for none.
struct Stretch {
    double lo, len, share;
    int parent, unused;
};

// The laws of places of a node's items: the stretches, and the innermost of each item; the gains once more.
struct Spread {
    int count;
    unsigned short innermost[MAX_EDGES];
    Stretch stretches[MAX_STRETCHES];
    double gains[MAX_EDGES];
};

// A law of up to so many pieces has them where the team is.
constexpr int FEW_PIECES = 48;

// Scratch of a layout.
struct LayingRoom {
    double p[MAX_EDGES], q[MAX_EDGES], w[MAX_EDGES];
    Task tasks[MAX_EDGES];
};

// Scratch of a child.
struct PartingRoom {
    // The stretches around the token's two items, those of the second from the back.
    unsigned short around[MAX_AROUND];
    int counts[2];
    // Their lower ends, then their upper ends; their shares for each place, and their lengths.
    double ends[2 * MAX_AROUND], density[MAX_AROUND], len[MAX_AROUND];
    double cuts[2 * MAX_AROUND], parts[2 * MAX_AROUND];
};

union SpreadRoom {
    LayingRoom laying;
    PartingRoom parting;
};

// The lane with the least value among those that have one, or LANES.
template <class Team>
DRAFTPICK_DEVICE int lane_of_least(const Team& team, bool has, double value) {
    const double least = -team.max(has ? -value : -1e300);
    return team.first(has && value == least);
}

// Spreads the items of a plan over the places of a label. `gains[i]`: how many times as often as it is drafted item i is
// selected.
template <class Team>
DRAFTPICK_CALL void spread_out(
    const Team& team, const LabelView& label, const Mass* items, int count, double weight, Drafts n, LayingRoom& room,
    Spread& spread, double* gains
) {
    const int each = (count + Team::LANES - 1) / Team::LANES;
    const int begin = smaller(team.lane() * each, count), end = smaller(begin + each, count);
    double sum = 0.0, q = 0.0;
    for (int i = begin; i < end; i++) {
        sum += room.p[i] = items[i].p;
        q += room.q[i] = items[i].q;
    }
    const double per_total = 1.0 / team.sum(sum);
    team.sync();
    sum = 0.0;
    for (int i = begin; i < end; i++) sum += room.p[i] *= per_total;
    double place = team.scan(sum) - sum, won = 0.0;
    for (int i = begin; i < end; i++) {
        double w = 0.0;
        pass(label, place, room.p[i], [&](Segment passed, double places) {
            w += places * mean_density(passed.lo, top(passed), n);
        });
        room.w[i] = w;
        won += w;
        place += room.p[i];
    }
    const double per_won = 1.0 / team.sum(won);
    double w = 0.0;
    for (int i = begin; i < end; i++) w += room.w[i] *= per_won;
    // H: how many items, and their places.
    double at_p = team.scan(sum) - sum, at_q = team.scan(q) - q, at_w = team.scan(w) - w, loss = 0.0, over_p = 0.0;
    int over = 0;
    for (int i = begin; i < end; i++) {
        at_p += room.p[i];
        at_q += room.q[i];
        at_w += room.w[i];
        if (weight * at_q - at_w < loss) {
            loss = weight * at_q - at_w;
            over = i + 1;
            over_p = at_p;
        }
    }
    const int owner = lane_of_least(team, over > 0, loss);
    over = owner < Team::LANES ? team.from(over, owner) : 0;
    over_p = owner < Team::LANES ? team.from(over_p, owner) : 0.0;
    if (team.lane() == 0) {
        if (over > 0) room.tasks[0] = Task{0.0, weight, 0.0, 1.0, 0.0, short(over), -1, AT_LEAST};
        if (over < count) room.tasks[over] = Task{over_p, weight, 0.0, 1.0, 0.0, short(count), -1, AT_MOST};
    }
    team.sync();
    // What is still to be spread are ranges end to end: the next one begins where the last one ended.
    int stretches = 0;
    for (int first = 0; first < count;) {
        const Task task = room.tasks[first];
        const int items_each = (task.end - first + Team::LANES - 1) / Team::LANES;
        const int from = smaller(first + team.lane() * items_each, int(task.end));
        const int to = smaller(from + items_each, int(task.end));
        auto wanted = [&](int i) { return task.of_q * room.q[i] - task.of_p * room.p[i]; };
        double len = 0.0, mass = 0.0, all = 0.0;
        for (int i = from; i < to; i++) {
            len += room.p[i];
            mass += room.w[i];
            all += wanted(i);
        }
        const double len_upto = team.scan(len), mass_upto = team.scan(mass), all_upto = team.scan(all);
        double places = len_upto - len, won_here = mass_upto - mass, asked = all_upto - all;
        len = team.from(len_upto, Team::LANES - 1);
        mass = team.from(mass_upto, Team::LANES - 1);
        all = team.from(all_upto, Team::LANES - 1);
        const double mean = ratio(mass, len);
        double even = 1.0, tight_places = 0.0;
        int tight = -1;
        for (int i = from; i < smaller(to, task.end - 1); i++) {
            places += room.p[i];
            won_here += room.w[i];
            asked += wanted(i);
            // What an even law gives the first items above the least they can have, and what they may have.
            const double given = places * mean - won_here;
            const double may = task.bound == AT_LEAST ? (mass - won_here) - (all - asked) : asked - won_here;
            if (given > SPREAD_ROUNDING * mass && may < even * given) {
                even = ratio(larger(may, 0.0), given);
                tight = i + 1;
                tight_places = places;
            }
        }
        const int lane = lane_of_least(team, tight >= 0, even);
        if (lane < Team::LANES) {
            even = team.from(even, lane);
            tight = team.from(tight, lane);
            tight_places = team.from(tight_places, lane);
        }
        const double rest = task.left * (1.0 - even);
        const bool divides = lane < Team::LANES && rest > SPREAD_ROUNDING;
        const double share = divides ? task.left * even : task.left;
        if (team.lane() == 0) spread.stretches[stretches] = Stretch{task.lo, len, share, task.parent, 0};
        if (!divides) {
            for (int i = from; i < to; i++) {
                spread.innermost[i] = (unsigned short)stretches;
                gains[i] = spread.gains[i] = task.gained + task.left * mean;
            }
            first = task.end;
            team.sync();
        } else {
            // All have read the task.
            team.sync();
            const double per_rest = ratio(1.0, 1.0 - even);
            Task below = task;
            below.of_q = task.of_q * per_rest;
            below.of_p = (task.of_p + even * mean) * per_rest;
            below.left = rest;
            below.gained = task.gained + share * mean;
            below.parent = short(stretches);
            Task above = below;
            above.lo = task.lo + tight_places;
            // The tight side has its bounds exactly.
            below.end = short(tight);
            (task.bound == AT_LEAST ? above : below).bound = EXACTLY;
            if (team.lane() == 0) {
                room.tasks[first] = below;
                room.tasks[tight] = above;
            }
            team.sync();
        }
        stretches += 1;
    }
    if (team.lane() == 0) spread.count = stretches;
    team.sync();
}

// --- a child -----------------------------------------------------------------------------------------------------------

// A token's items, with its draft mass on each.
struct TokenItems {
    int item[2];
    double mass[2];
};

DRAFTPICK_DEVICE TokenItems items_of_token(const NodePlan& plan, double p, double q) {
    const Split on = split(plan.edges(), p, q);
    TokenItems found;
    found.item[0] = plan.item_of[smaller(on.lower, plan.len - 1)];
    found.item[1] = plan.item_of[smaller(on.lower + 1, plan.len - 1)];
    found.mass[0] = on.p_lower;
    found.mass[1] = on.p_upper;
    return found;
}

// a: the probability that the winner goes on with a token.
DRAFTPICK_DEVICE double selected(const TokenItems& token, const double* gains) {
    return token.mass[0] * gains[token.item[0]] + token.mass[1] * gains[token.item[1]];
}

// The law of labels after a token of draft mass `p`, in `few` or in `many`; none if it has too many pieces.
template <class Team>
DRAFTPICK_CALL LabelView label_after(
    const Team& team, const LabelView& label, const Spread& spread, const TokenItems& token, double p, PartingRoom& room,
    Piece* few, Label& many
) {
    // The stretches around its items.
    for (int side = team.lane(); side < 2; side += Team::LANES) {
        int count = 0;
        if (token.mass[side] > 0.0) {
            for (int at = spread.innermost[token.item[side]]; at >= 0; at = spread.stretches[at].parent) {
                room.around[side == 0 ? count : MAX_AROUND - 1 - count] = (unsigned short)at;
                count += 1;
            }
        }
        room.counts[side] = count;
    }
    team.sync();
    const int first = room.counts[0], around = first + room.counts[1], ends = 2 * around;
    const double part[2] = {ratio(token.mass[0], p), ratio(token.mass[1], p)};
    bool is_point = false;
    for (int i = team.lane(); i < around; i += Team::LANES) {
        const Stretch here = spread.stretches[room.around[i < first ? i : MAX_AROUND - 1 - (i - first)]];
        room.ends[i] = here.lo;
        room.ends[around + i] = here.lo + here.len;
        room.density[i] = ratio(here.share * (i < first ? part[0] : part[1]), here.len);
        room.len[i] = here.len;
        is_point = is_point || !(here.lo + here.len > here.lo);
    }
    const bool points = team.first(is_point) < Team::LANES;
    team.sync();
    // Their ends in order: each goes to the place that as many are before.
    for (int i = team.lane(); i < ends; i += Team::LANES) {
        const double here = room.ends[i];
        int before = 0;
        for (int j = 0; j < ends; j++) {
            const double other = room.ends[j];
            before += other < here || (other == here && j < i) ? 1 : 0;
        }
        room.cuts[before] = here;
    }
    team.sync();
    // What the law has between neighbouring ends. A stretch shorter than the distance of two neighbouring numbers has
    // both of its ends in one place, and is the part between them.
    auto point = [&](int i, double& len) {
        double share = 0.0;
        len = 0.0;
        if (!points || (i > 0 && room.cuts[i - 1] == room.cuts[i])) return share;
        for (int s = 0; s < around; s++) {
            if (room.ends[s] != room.cuts[i] || room.ends[around + s] > room.ends[s]) continue;
            share += room.density[s] * room.len[s];
            len = larger(len, room.len[s]);
        }
        return share;
    };
    for (int i = team.lane(); i + 1 < ends; i += Team::LANES) {
        const double lo = room.cuts[i], hi = room.cuts[i + 1];
        double len = hi - lo, density = 0.0;
        if (!(len > 0.0)) {
            room.parts[i] = point(i, len);
            continue;
        }
        for (int s = 0; s < around; s++) {
            if (room.ends[s] <= lo && room.ends[around + s] >= hi) density += room.density[s];
        }
        room.parts[i] = density * len;
    }
    team.sync();
    // The pieces of each part.
    const int parts = ends - 1, each = (parts + Team::LANES - 1) / Team::LANES;
    const int from = smaller(team.lane() * each, parts), to = smaller(from + each, parts);
    auto pieces_of = [&](int i, const auto& visit) {
        const double share = room.parts[i];
        if (!(share > 0.0)) return;
        double len = room.cuts[i + 1] - room.cuts[i];
        if (!(len > 0.0)) point(i, len);
        if (!(len > 0.0)) return;
        const double per_len = ratio(share, len);
        pass(label, room.cuts[i], len, [&](Segment labels, double places) {
            const double mass = per_len * places;
            if (mass > 0.0) visit(labels, mass);
        });
    };
    int own = 0;
    for (int i = from; i < to; i++) pieces_of(i, [&](Segment, double) { own += 1; });
    const double upto = team.scan(double(own));
    const int count = int(team.from(upto, Team::LANES - 1));
    if (count > MAX_PIECES) return LabelView{nullptr, 0};
    Piece* after = count <= FEW_PIECES ? few : many.pieces;
    int place = int(upto) - own;
    const int own_from = place;
    double sum = 0.0;
    for (int i = from; i < to; i++) {
        pieces_of(i, [&](Segment labels, double mass) {
            sum += mass;
            after[place++] = Piece{labels, mass, sum};
        });
    }
    const double sum_upto = team.scan(sum), before = sum_upto - sum;
    const double per_total = 1.0 / team.from(sum_upto, Team::LANES - 1);
    for (int i = own_from; i < place; i++) {
        after[i].mass *= per_total;
        after[i].upto = (before + after[i].upto) * per_total;
    }
    team.sync();
    return LabelView{after, count};
}

// --- what is left of the target's law --------------------------------------------------------------------------------

// P_t*q - a of the tokens on an edge, for each unit of draft mass.
DRAFTPICK_DEVICE double excess_on(const NodePlan& plan, const double* gains, double weight, int edge) {
    return weight * plan.inverses[edge] - gains[plan.item_of[edge]];
}

// P_t*q - a of the tokens of a class, as of_q*q + of_p*p.
DRAFTPICK_DEVICE Mass excess_of(const NodePlan& plan, const double* gains, double weight, int of) {
    const double here = excess_on(plan, gains, weight, of);
    if (of == 0) return Mass{here - weight * plan.inverses[0], weight};
    const double high = plan.inverses[of - 1], low = plan.inverses[of];
    const double above = excess_on(plan, gains, weight, of - 1);
    const double of_q = (above - here) / (high - low);
    return Mass{above - of_q * high, of_q};
}

// What the sum of (P_t*q - a)+ over a class is between: the two differ where it changes its sign.
DRAFTPICK_DEVICE Bounds class_residual(const NodePlan& plan, const double* gains, double weight, int of) {
    const Mass sums = plan.classes[of];
    if (!(sums.q > 0.0)) return Bounds{0.0, 0.0};
    const double here = excess_on(plan, gains, weight, of);
    double below, above;
    if (of == 0) {
        // Target mass that is never drafted, and the lowest edge.
        below = weight * larger(sums.q - sums.p * plan.inverses[0], 0.0);
        above = here * sums.p;
    } else {
        const Split on = split_sum(plan.edges(), of, sums.p, sums.q);
        below = excess_on(plan, gains, weight, of - 1) * on.p_lower;
        above = here * on.p_upper;
    }
    return Bounds{larger(below + above, 0.0), larger(below, 0.0) + larger(above, 0.0)};
}

// The sum over all classes: what is known, and the class that it is not known of, -1 for none.
struct Left {
    double known;
    int open;
    Bounds bounds;  // of that class
};

// A difference of the bounds that is rounding.
constexpr double CLOSED = 1e-12;

template <class Team>
DRAFTPICK_DEVICE Left left_of(const Team& team, const NodePlan& plan, const double* gains, double weight) {
    // Only where H ends the sign can change: of other classes the bounds differ by rounding.
    double known = 0.0, widest = CLOSED;
    int open = -1;
    Bounds bounds{0.0, 0.0};
    for (int of = team.lane(); of < plan.len; of += Team::LANES) {
        const Bounds here = class_residual(plan, gains, weight, of);
        known += here.least;
        if (here.most - here.least > widest) {
            widest = here.most - here.least;
            open = of;
            bounds = here;
        }
    }
    known = team.sum(known);
    const int lane = lane_of_least(team, open >= 0, -widest);
    if (lane == Team::LANES) return Left{known, -1, Bounds{0.0, 0.0}};
    open = team.from(open, lane);
    bounds = Bounds{team.from(bounds.least, lane), team.from(bounds.most, lane)};
    return Left{known - bounds.least, open, bounds};
}

DRAFTPICK_DEVICE Bounds total_of(const Left& left) {
    return Bounds{(left.known + left.bounds.least) * (1.0 - 1e-12), (left.known + left.bounds.most) * (1.0 + 1e-12)};
}

// A class, and how much of its sum is below the coin.
struct ClassChoice {
    int of;
    double threshold;
};

// The class where the running sum passes `threshold`, given the sum over the open one; the last of any mass if none is.
template <class Team>
DRAFTPICK_DEVICE ClassChoice class_at(
    const Team& team, const NodePlan& plan, const double* gains, double weight, int open, double open_sum, double threshold
) {
    double cumulative = 0.0;
    int last = -1;
    for (int start = 0; start < plan.len; start += Team::LANES) {
        const int of = start + team.lane();
        const double sum = of >= plan.len ? 0.0 : of == open ? open_sum : class_residual(plan, gains, weight, of).least;
        const double upto = cumulative + team.scan(sum);
        const int found = team.first(sum > 0.0 && threshold < upto);
        if (found < Team::LANES) return ClassChoice{start + found, larger(threshold - team.from(upto - sum, found), 0.0)};
        last = larger(last, int(team.max(sum > 0.0 ? double(of) : -1.0)));
        cumulative = team.from(upto, Team::LANES - 1);
    }
    return ClassChoice{last, 1e300};
}

}  // namespace draftpick
