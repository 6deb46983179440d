// Ratio classes: the functions of src/classes.rs over arrays of fixed capacity.

#pragma once

#include "team.cuh"

namespace draftpick {

// A draft mass and a target mass.
struct Mass {
    double p, q;
};

// The highest finite edge, as a logarithm.
constexpr double HIGHEST_EDGE = 8.0;
// How far below 1/K the ratio edges of the path coupling reach, as a logarithm.
constexpr double HEADROOM = 6.0;
// How far a class's end is looked for cell by cell, in cells a lane.
constexpr int NEAR = 3;

// x^k.
DRAFTPICK_DEVICE double power(double x, int k) {
    double power = k % 2 == 1 ? x : 1.0;
    for (k /= 2; k > 0; k /= 2) {
        x *= x;
        if (k % 2 == 1) power *= x;
    }
    return power;
}

// Equally spaced edges in the logarithm of the ratio p/q: `len` of them with the infinite one, which is the last. Class
// 0 is below edge 0, class j + 1 from edge j up to the next.
struct EdgeGrid {
    double width;
    double anchor;
    // The number of the lowest edge, counted from the anchor.
    double first;
    double log_lowest;
    // The inverse of the width.
    double per_width;
    int len;
};

// Edges `width` apart of which one is the ratio e^anchor, covering the ratios from e^log_lowest up.
DRAFTPICK_DEVICE EdgeGrid spanning(double width, double anchor, double log_lowest) {
    EdgeGrid grid;
    grid.width = width;
    grid.anchor = anchor;
    grid.first = floor((log_lowest - anchor) / width);
    const double last = ceil((HIGHEST_EDGE - anchor) / width);
    grid.log_lowest = anchor + grid.first * width;
    grid.per_width = 1.0 / width;
    grid.len = int(last - grid.first) + 2;
    return grid;
}

// 1/r of an edge; 0 for the infinite one.
DRAFTPICK_DEVICE double inverse(const EdgeGrid& grid, int edge) {
    if (edge == grid.len - 1) return 0.0;
    // As the product of two powers, as the Rust code has it.
    const double base = exp(-(grid.anchor + (grid.first + double(edge & ~31)) * grid.width));
    return base * exp(-(double(edge & 31) * grid.width));
}

// 1/r of all edges of a grid. `table` is scratch for 32 numbers and one for each 32 edges.
template <class Team>
DRAFTPICK_DEVICE void inverses_of(const Team& team, const EdgeGrid& grid, double* table, double* inverses) {
    const int bases = (grid.len + 31) / 32;
    for (int i = team.lane(); i < 32 + bases; i += Team::LANES) {
        table[i] = i < 32 ? exp(-(double(i) * grid.width))
                          : exp(-(grid.anchor + (grid.first + double((i - 32) * 32)) * grid.width));
    }
    team.sync();
    for (int e = team.lane(); e < grid.len; e += Team::LANES) {
        inverses[e] = e == grid.len - 1 ? 0.0 : table[32 + e / 32] * table[e & 31];
    }
    team.sync();
}

// The edges of a grid that remain.
struct Edges {
    double log_lowest, per_width;
    // The number of cells that tokens are counted by: the grid's edges.
    int cells;
    // The number of edges that remain, the infinite one included; also of classes.
    int len;
    // Which edge of the grid each is, ascending; null where all remain.
    const unsigned short* kept;
    // 1/r of each.
    const double* inverses;
};

// Room for edges: `capacity` numbers in each array.
struct EdgeRoom {
    unsigned short* kept;
    double* inverses;
    // The masses of the classes that remain.
    Mass* classes;
    int capacity;
};

// The class of a cell of the grid: the edges that remain at or below its lower end.
DRAFTPICK_DEVICE int class_of_cell(const Edges& edges, int cell) {
    if (edges.kept == nullptr) return cell;
    int low = 0, high = edges.len - 1;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (int(edges.kept[middle]) < cell) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// The class of a token.
DRAFTPICK_DEVICE int class_of(const Edges& edges, double p, double q) {
    const double place = (log(p / q) - edges.log_lowest) * edges.per_width + 1.0;
    // Not a number, which 0/0 is, counts as below.
    const int cell = !(place >= 1.0) ? 0 : place >= double(edges.cells - 1) ? edges.cells - 1 : int(place);
    int found = class_of_cell(edges, cell);
    // Rounding may have put the token on the wrong side of an edge; the band decides.
    while (found > 0 && !(p * edges.inverses[found - 1] >= q)) found -= 1;
    while (found + 1 < edges.len && p * edges.inverses[found] >= q && p > 0.0) found += 1;
    return found;
}

// The two edges of a token and its draft mass on each; the upper edge is the next after the lower.
struct Split {
    int lower;
    double p_lower, p_upper;
};

// Splits the sum of tokens of one class: the split is linear.
DRAFTPICK_DEVICE Split split_sum(const Edges& edges, int of, double p, double q) {
    if (of == 0) return Split{0, p, 0.0};
    const double high = edges.inverses[of - 1], low = edges.inverses[of];
    const double p_upper = clamped((p * high - q) / (high - low), 0.0, p);
    return Split{of - 1, p - p_upper, p_upper};
}

DRAFTPICK_DEVICE Split split(const Edges& edges, double p, double q) {
    return split_sum(edges, class_of(edges, p, q), p, q);
}

// The masses of the classes between the edges that remain, of which `count` are in `room`.
template <class Team>
DRAFTPICK_DEVICE Edges merged(const Team& team, const EdgeGrid& grid, const Mass* classes, const EdgeRoom& room, int count) {
    team.sync();
    for (int c = team.lane(); c < count; c += Team::LANES) room.inverses[c] = inverse(grid, room.kept[c]);
    const int group = team.lane() / Team::GROUP, in_group = team.lane() % Team::GROUP;
    for (int start = 0; start < count; start += Team::LANES / Team::GROUP) {
        const int c = start + group;
        // Class c is from edge c − 1 up to edge c; the last one is from the highest finite edge up.
        const int first = c > 0 && c < count ? room.kept[c - 1] + 1 : 0;
        const int end = c < count ? room.kept[c] + 1 : 0;
        Mass sum{0.0, 0.0};
        for (int cell = first + in_group; cell < end; cell += Team::GROUP) {
            sum.p += classes[cell].p;
            sum.q += classes[cell].q;
        }
        sum = Mass{team.group_sum(sum.p), team.group_sum(sum.q)};
        if (in_group == 0 && c < count) room.classes[c] = sum;
    }
    team.sync();
    return Edges{grid.log_lowest, grid.per_width, grid.len, count, room.kept, room.inverses};
}

// Drops edges as long as no class becomes heavier and wider than `loss` allows: `Edges::thinned`.
//
// `classes` are the masses of the grid's classes, `prefix` is scratch for `grid.len` numbers. The draft and target
// masses of each sum to at most 1, so that at most (4·(2·span)²/(8·loss))^⅓ + 4 edges remain: each but the last has
// mass·spread² > 8·loss, counting every class at most twice.
template <class Team>
DRAFTPICK_CALL Status thinned(
    const Team& team, const EdgeGrid& grid, const Mass* DRAFTPICK_RESTRICT classes, double loss,
    double* DRAFTPICK_RESTRICT prefix, const EdgeRoom& room, Edges& edges
) {
    const double width = 1.0 / grid.per_width;
    const int last = grid.len - 1;
    // prefix[c] = Σ max(p, q) over the classes 1 to c. Each lane adds up a stretch.
    const int stretch = (grid.len + Team::LANES - 1) / Team::LANES;
    const int from = larger(team.lane() * stretch, 1), to = smaller((team.lane() + 1) * stretch, grid.len);
    double sum = 0.0;
    for (int c = from; c < to; c++) sum += larger(classes[c].p, classes[c].q);
    // Added up again from there on: a sum of one lane is that of the Rust code.
    sum = team.scan(sum) - sum;
    for (int c = from; c < to; c++) {
        sum += larger(classes[c].p, classes[c].q);
        prefix[c] = sum;
    }
    if (team.lane() == 0) prefix[0] = 0.0;
    team.sync();
    int count = 0, start = 1;
    for (;;) {
        if (count + 2 > room.capacity) return TOO_MANY_EDGES;
        if (team.lane() == 0) room.kept[count] = (unsigned short)(start - 1);
        count += 1;
        if (start == last) break;
        // The first class that is too much for what is between it and the edge.
        const double before = prefix[start - 1];
        auto ends = [&](int c) {
            if (c >= last) return true;
            const double spread = double(c - start + 1) * width;
            return (prefix[c] - before) * spread * spread > 8.0 * loss;
        };
        // First among the next few, then in as many parts as there are lanes and one.
        int low = start + 1, high = last;
        bool near[NEAR];
        for (int i = 0; i < NEAR; i++) near[i] = ends(low + i * Team::LANES + team.lane());
        int found = Team::LANES;
        for (int i = 0; i < NEAR && found == Team::LANES; i++) {
            found = team.first(near[i]);
            low = smaller(low + found, last);
        }
        if (found < Team::LANES) high = low;
        while (low < high) {
            const int step = (high - low + 1 + Team::LANES) / (Team::LANES + 1);
            found = team.first(ends(low + (team.lane() + 1) * step - 1));
            if (found < Team::LANES) high = smaller(low + (found + 1) * step - 1, last);
            low = smaller(low + found * step, high);
        }
        start = high;
    }
    if (team.lane() == 0) room.kept[count] = (unsigned short)last;
    edges = merged(team, grid, classes, room, count + 1);
    return OK;
}

// The draft mass on an edge, given the masses of the classes.
DRAFTPICK_DEVICE double draft_mass(const Edges& edges, const Mass* classes, int edge) {
    double mass = 0.0;
    if (classes[edge].p > 0.0) {
        const Split below = split_sum(edges, edge, classes[edge].p, classes[edge].q);
        mass += edge == 0 ? below.p_lower : below.p_upper;
    }
    if (edge + 1 < edges.len && classes[edge + 1].p > 0.0) {
        mass += split_sum(edges, edge + 1, classes[edge + 1].p, classes[edge + 1].q).p_lower;
    }
    return mass;
}

// What a layout is made of: the edges that have draft mass, highest ratio first.
struct Items {
    // How many there are; as many numbers as edges have room in each array.
    int count;
    // The masses of each item, the edge of each, and the item of each edge.
    Mass* masses;
    unsigned short* edge_of;
    unsigned short* item_of;
};

template <class Team>
DRAFTPICK_CALL void items_of(const Team& team, const Edges& edges, const Mass* classes, Items& items) {
    items.count = 0;
    for (int start = 0; start < edges.len; start += Team::LANES) {
        const int edge = edges.len - 1 - start - team.lane();
        const double mass = edge >= 0 ? draft_mass(edges, classes, edge) : 0.0;
        int all;
        const int place = items.count + team.before(mass > 0.0, all);
        if (mass > 0.0) {
            items.masses[place] = Mass{mass, mass * edges.inverses[edge]};
            items.edge_of[place] = (unsigned short)edge;
        }
        // No draft has a share on an edge without mass; what rounding makes look like one goes to a neighbour.
        if (edge >= 0) items.item_of[edge] = (unsigned short)(mass > 0.0 ? place : larger(place - 1, 0));
        items.count += all;
    }
    team.sync();
}

// The target mass on ratio 0, which is never drafted.
DRAFTPICK_DEVICE double undrafted(const Edges& edges, const Mass* classes) {
    return larger(classes[0].q - classes[0].p * edges.inverses[0], 0.0);
}

}  // namespace draftpick
