// Regions of [0, 1]: the functions of src/layout.rs over arrays of fixed capacity, in two steps.
//
// `lay_out` finds the blocks of the majorant and from them every item's mass, `slope·q` in a block of several. The
// region of an item is built only where a draft has a label in it (`Windows`): a window needs those of its block that
// are denser, and nothing of other blocks.
//
// The Rust code gives each region the mass that it was built with, this one the mass that was asked for: they differ by
// the rounding of a root search, below 1e-12.

#pragma once

#include "classes.cuh"

namespace draftpick {

// The most rounds of a root search, and its relative precision.
constexpr int ROUNDS = 60;
#ifndef DRAFTPICK_PRECISION
#define DRAFTPICK_PRECISION (16.0 * EPSILON)
#endif
constexpr double PRECISION = DRAFTPICK_PRECISION;

// An interval of labels: its lower end and its length.
struct Segment {
    double lo, len;
};

DRAFTPICK_DEVICE double top(Segment s) { return s.lo + s.len; }
DRAFTPICK_DEVICE bool is_empty(Segment s) { return !(s.len > 0.0); }

// Whether `above` begins where `below` ends, within rounding.
DRAFTPICK_DEVICE bool touches(Segment below, Segment above) { return fabs(above.lo - top(below)) <= 4.0 * EPSILON; }
DRAFTPICK_DEVICE Segment joined(Segment below, Segment above) { return Segment{below.lo, below.len + above.len}; }

// The number of drafts, and its highest binary digit.
struct Drafts {
    int k;
    int digit;
};

DRAFTPICK_DEVICE Drafts drafts(int k) {
    int digit = 1;
    while (2 * digit <= k) digit *= 2;
    return Drafts{k, digit};
}

// (hi^k − lo^k)/(hi − lo): the mean of k·u^(k−1) over an interval, also an empty one.
DRAFTPICK_DEVICE double mean_density(double lo, double hi, Drafts n) {
    double h = 1.0, hi_n = hi, lo_n = lo;
    for (int bit = n.digit >> 1; bit > 0; bit >>= 1) {
        h *= hi_n + lo_n;
        hi_n *= hi_n;
        lo_n *= lo_n;
        if (n.k & bit) {
            h = hi * h + lo_n;
            hi_n *= hi;
            lo_n *= lo;
        }
    }
    return h;
}

// k·u^(k−1).
DRAFTPICK_DEVICE double point_density(double u, Drafts n) { return double(n.k) * power(u, n.k - 1); }

// The probability that the largest of k uniform labels falls into a segment.
DRAFTPICK_DEVICE double mass_of(Segment s, Drafts n) { return s.len * mean_density(s.lo, top(s), n); }

DRAFTPICK_DEVICE double length_of(const Segment* region, int count) {
    double length = 0.0;
    for (int i = 0; i < count; i++) length += region[i].len;
    return length;
}

// The label at the share `coin` of a region's length, its gaps closed.
DRAFTPICK_DEVICE double label_in(const Segment* region, int count, double coin) {
    double at = coin * length_of(region, count);
    for (int i = 0; i < count; i++) {
        if (at < region[i].len) return region[i].lo + at;
        at -= region[i].len;
    }
    return top(region[count - 1]);
}

// A point of the base region: the segment it lies in and its distance from the segment's lower end.
struct Cut {
    double at;
    int segment;
};

// The items of a region and the blocks of their majorant. There is room for as many numbers as items in each array, and
// for one more in `cuts` and `starts`.
struct Layout {
    int count;
    // Each item's draft mass, as a length of labels, and target mass; highest ratio first.
    const Mass* items;
    // The items' lengths, end to end, cut the base.
    Cut* cuts;
    // The probability that the largest label falls into each item's region.
    double* masses;
    // The number of blocks; the item that each starts with, the mass and the slope of each (the target mass at first).
    int blocks;
    unsigned short* starts;
    double* block_masses;
    double* slopes;
    // The block of each item.
    unsigned short* block_of;
};

// The segment of the base between two cuts that lies in its segment i.
DRAFTPICK_DEVICE Segment piece(const Segment* base, Cut from, Cut to, int i) {
    const double start = i == from.segment ? from.at : 0.0;
    const double end = i == to.segment ? to.at : base[i].len;
    return Segment{base[i].lo + start, larger(end - start, 0.0)};
}

// The points at which the items' lengths, end to end, cut the base.
template <class Team>
DRAFTPICK_DEVICE void cut_points(const Team& team, const Segment* base, int segments, Layout& layout) {
    double before = 0.0;
    for (int start = 0; start < layout.count; start += Team::LANES) {
        const int i = start + team.lane();
        const double upto = before + team.scan(i < layout.count ? layout.items[i].p : 0.0);
        before = team.from(upto, Team::LANES - 1);
        double left = upto;
        int segment = 0;
        for (; segment + 1 < segments && left > base[segment].len; segment++) left -= base[segment].len;
        if (i < layout.count) layout.cuts[i + 1] = Cut{smaller(left, base[segment].len), segment};
    }
    team.sync();
    if (team.lane() == 0) {
        layout.cuts[0] = Cut{0.0, 0};
        // Rounding must not leave a rest that nobody owns.
        layout.cuts[layout.count] = Cut{base[segments - 1].len, segments - 1};
    }
    team.sync();
}

// Pools adjacent blocks whose slopes mass/q do not fall; the number of blocks that remain. The topmost block is in
// registers, the others lie at or before the items that they start with. One lane's work.
DRAFTPICK_DEVICE int pool(Layout& layout) {
    int below = 0, start = 0;
    double mass = layout.block_masses[0], q = layout.items[0].q;
    double next_mass = layout.count > 1 ? layout.block_masses[1] : 0.0;
    double next_q = layout.count > 1 ? layout.items[1].q : 0.0;
    for (int i = 1; i < layout.count; i++) {
        int new_start = i;
        double new_mass = next_mass, new_q = next_q;
        if (i + 1 < layout.count) {
            next_mass = layout.block_masses[i + 1];
            next_q = layout.items[i + 1].q;
        }
        bool open = true;
        // Without a division: nothing has a larger slope than a block without target mass.
        while (open && q > 0.0 && new_mass * q >= mass * new_q) {
            new_mass = mass + new_mass;
            new_q = q + new_q;
            new_start = start;
            open = below > 0;
            if (open) {
                below -= 1;
                start = layout.starts[below];
                mass = layout.block_masses[below];
                q = layout.slopes[below];
            }
        }
        if (open) {
            layout.starts[below] = (unsigned short)start;
            layout.block_masses[below] = mass;
            layout.slopes[below] = q;
            below += 1;
        }
        start = new_start;
        mass = new_mass;
        q = new_q;
    }
    layout.starts[below] = (unsigned short)start;
    layout.block_masses[below] = mass;
    layout.slopes[below] = q;
    layout.starts[below + 1] = (unsigned short)layout.count;
    return below + 1;
}

// Finds the blocks and the items' masses over `base`, whose segments are ascending and as long together as the items'
// lengths.
template <class Team>
DRAFTPICK_CALL void lay_out(const Team& team, const Segment* base, int segments, Drafts n, Layout& layout) {
    cut_points(team, base, segments, layout);
    for (int i = team.lane(); i < layout.count; i += Team::LANES) {
        const Cut from = layout.cuts[i], to = layout.cuts[i + 1];
        double mass = 0.0;
        if (from.segment == to.segment) {
            // Not the difference of the cuts: rounding may have made that 0 for a tiny item.
            const double lo = base[from.segment].lo;
            mass = layout.items[i].p * mean_density(lo + from.at, lo + to.at, n);
        } else {
            for (int s = from.segment; s <= to.segment; s++) mass += mass_of(piece(base, from, to, s), n);
        }
        layout.block_masses[i] = mass;
    }
    team.sync();
    layout.blocks = team.from(team.lane() == 0 ? pool(layout) : 0, 0);
    team.sync();
    for (int b = team.lane(); b < layout.blocks; b += Team::LANES) {
        layout.slopes[b] = layout.block_masses[b] / layout.slopes[b];
    }
    team.sync();
    for (int i = team.lane(); i < layout.count; i += Team::LANES) {
        // The last block that starts at the item or before it.
        int low = 0, high = layout.blocks - 1;
        while (low < high) {
            const int middle = (low + high + 1) / 2;
            if (int(layout.starts[middle]) <= i) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        layout.block_of[i] = (unsigned short)low;
        const bool alone = layout.starts[low + 1] - layout.starts[low] == 1;
        layout.masses[i] = alone ? layout.block_masses[low] : layout.slopes[low] * layout.items[i].q;
    }
    team.sync();
}

// The part of a block that no item owns yet, split at a cursor, and the window being cut out of it at the cursor.
struct Windows {
    // The free segments below the cursor, from the front, and those above it, from the back; on either side the last one
    // added is next to the cursor.
    Segment* free;
    int capacity, left, right;
    // The window, ascending, as a ring of a capacity that is a power of 2.
    Segment* window;
    int ring, head, count;
    // Whether something did not fit.
    bool full;

    DRAFTPICK_DEVICE Segment& at(int i) { return window[(head + i) & (ring - 1)]; }
    DRAFTPICK_DEVICE Segment& below() { return free[left - 1]; }
    DRAFTPICK_DEVICE Segment& above() { return free[capacity - right]; }

    DRAFTPICK_DEVICE void push_left(Segment s) {
        if (is_empty(s)) return;
        if (left > 0 && touches(below(), s)) {
            below() = joined(below(), s);
        } else if (left + right < capacity) {
            free[left++] = s;
        } else {
            full = true;
        }
    }
    DRAFTPICK_DEVICE void push_right(Segment s) {
        if (is_empty(s)) return;
        if (right > 0 && touches(s, above())) {
            above() = joined(s, above());
        } else if (left + right < capacity) {
            free[capacity - ++right] = s;
        } else {
            full = true;
        }
    }
    DRAFTPICK_DEVICE void push_front(Segment s) {
        if (count > 0 && is_empty(s)) return;
        if (count > 0 && touches(s, at(0))) {
            at(0) = joined(s, at(0));
        } else if (count < ring) {
            head = (head + ring - 1) & (ring - 1);
            count += 1;
            at(0) = s;
        } else {
            full = true;
        }
    }
    DRAFTPICK_DEVICE void push_back(Segment s) {
        if (count > 0 && is_empty(s)) return;
        if (count > 0 && touches(at(count - 1), s)) {
            at(count - 1) = joined(at(count - 1), s);
        } else if (count < ring) {
            count += 1;
            at(count - 1) = s;
        } else {
            full = true;
        }
    }
    // Drops empty segments next to the cursor; whether one is left.
    DRAFTPICK_DEVICE bool has_left() {
        while (left > 0 && is_empty(below())) left -= 1;
        return left > 0;
    }
    DRAFTPICK_DEVICE bool has_right() {
        while (right > 0 && is_empty(above())) right -= 1;
        return right > 0;
    }
    // Drops empty segments at an end of the window, but for the last; whether the one there has length.
    DRAFTPICK_DEVICE bool has_back() {
        while (count > 1 && is_empty(at(count - 1))) count -= 1;
        return count > 0 && !is_empty(at(count - 1));
    }
    DRAFTPICK_DEVICE bool has_front() {
        while (count > 1 && is_empty(at(0))) {
            head = (head + 1) & (ring - 1);
            count -= 1;
        }
        return count > 0 && !is_empty(at(0));
    }
    DRAFTPICK_DEVICE void drop_front() {
        head = (head + 1) & (ring - 1);
        count -= 1;
    }
    // An empty segment at the cursor, for an item too thin for f64.
    DRAFTPICK_DEVICE Segment point() {
        return Segment{left > 0 ? top(below()) : right > 0 ? above().lo : 0.0, 0.0};
    }

    DRAFTPICK_DEVICE void reset(const Segment* base, Cut from, Cut to) {
        left = right = 0;
        for (int s = from.segment; s <= to.segment; s++) {
            if (left < capacity) {
                free[left++] = piece(base, from, to, s);
            } else {
                full = true;
            }
        }
    }

    // Fills the window with length `p` from below the cursor, and from above where that is not enough.
    DRAFTPICK_DEVICE void gather(double p) {
        double missing = p;
        while (missing > 0.0 && has_left()) {
            const Segment next = below();
            left -= 1;
            const double taken = clamped(missing, 0.0, next.len);
            const Segment low{next.lo, next.len - taken};
            push_left(low);
            missing -= taken;
            push_front(Segment{top(low), taken});
        }
        while (missing > 0.0 && has_right()) {
            const Segment next = above();
            right -= 1;
            const double taken = clamped(missing, 0.0, next.len);
            push_right(Segment{next.lo + taken, next.len - taken});
            missing -= taken;
            push_back(Segment{next.lo, taken});
        }
        if (count == 0) push_back(point());
    }

    DRAFTPICK_DEVICE double window_mass(Drafts n) {
        double mass = 0.0;
        for (int i = 0; i < count; i++) mass += mass_of(at(i), n);
        return mass;
    }

    // Cuts out the window of length `p` whose mean density is `density`, or the nearest there is.
    DRAFTPICK_DEVICE void take(double p, double density, Drafts n);

    // Makes all that is left the window.
    DRAFTPICK_DEVICE void take_rest() {
        count = 0;
        for (; left > 0; left--) push_front(below());
        for (; right > 0; right--) push_back(above());
        if (count == 0) push_back(point());
    }
};

// The mass that a window gains when it gives up a stretch next to `from` and takes one of the same length next to `to`,
// both above these points or both below them.
struct Shift {
    double from, to;
    bool above;
    Drafts n;

    DRAFTPICK_DEVICE double density(double at, double t) const {
        return above ? mean_density(at, at + t, n) : mean_density(at - t, at, n);
    }
    // Times t, not the difference of the ends: that has only the digits of the labels.
    DRAFTPICK_DEVICE double moved(double t) const { return t * (density(to, t) - density(from, t)); }
    DRAFTPICK_DEVICE double slope(double t) const {
        const double signed_t = above ? t : -t;
        return point_density(to + signed_t, n) - point_density(from + signed_t, n);
    }
};

// The t in [0, step] with moved(t) = wanted, `step` if `moved` does not get that far; `gained` is moved(t). Newton's
// method, kept inside a bracket, from where the parabola through both ends with the slope at 0 has the value.
DRAFTPICK_DEVICE double root(double wanted, double step, double scale, const Shift& shift, double& gained) {
    const double whole = shift.moved(step);
    gained = whole;
    if (fabs(whole) <= fabs(wanted)) return step;
    const float linear = float(roughly(shift.slope(0.0) * step, whole)), share = float(roughly(wanted, whole));
    const float under = linear * linear + 4.0f * (1.0f - linear) * share;
    double t = step * double(2.0f * share / (linear + sqrt(under > 0.0f ? under : 0.0f)));
    double lower = 0.0, upper = step;
    if (!(t > lower && t < upper)) t = 0.5 * step;
    for (int round = 0;; round++) {
        gained = shift.moved(t);
        const double error = gained - wanted, slope = shift.slope(t);
        if (round == ROUNDS || fabs(error) <= PRECISION * scale || upper - lower <= PRECISION * upper) return t;
        if ((error > 0.0) == (wanted > 0.0)) {
            upper = t;
        } else {
            lower = t;
        }
        const double next = t - roughly(error, slope);
        t = next > lower && next < upper ? next : 0.5 * (lower + upper);
    }
}

// How far above the lower end of `segment` the window of length `length` inside it begins that has mean density
// `density`, which is not more than the topmost window has; 0 where even the bottommost window is denser.
DRAFTPICK_DEVICE double slide(Segment segment, double length, double density, Drafts n) {
    double lower = 0.0, upper = segment.len - length;
    auto excess = [&](double at) { return mean_density(segment.lo + at, segment.lo + at + length, n) - density; };
    // With one draft every density is 1.
    if (n.k == 1 || excess(lower) >= 0.0) return lower;
    const Drafts fewer = drafts(n.k - 1);
    // The density k·u^(k−1) at the window's middle is right for a short window; Newton's method does the rest.
    double at = double(pow(float(density / double(n.k)), 1.0f / float(n.k - 1))) - 0.5 * length - segment.lo;
    for (int round = 0; round < ROUNDS; round++) {
        if (!(at > lower && at < upper)) at = 0.5 * (lower + upper);
        const double error = excess(at);
        if (fabs(error) <= PRECISION * density || upper - lower <= PRECISION * upper) break;
        if (error > 0.0) {
            upper = at;
        } else {
            lower = at;
        }
        // The derivative of the mean density is (k·hi^(k−1) − k·lo^(k−1))/length.
        const double lo = segment.lo + at;
        at -= roughly(error, double(n.k) * mean_density(lo, lo + length, fewer));
    }
    return clamped(at, 0.0, segment.len - length);
}

DRAFTPICK_DEVICE void Windows::take(double p, double density, Drafts n) {
    count = 0;
    gather(p);
    double length = 0.0;
    for (int i = 0; i < count; i++) length += at(i).len;
    const double wanted = density * length;
    double mass = window_mass(n);
    // Down: the window's top goes to the right of the cursor, as much comes in from the left below it.
    while (mass > wanted && has_back() && has_left()) {
        const Segment highest = at(count - 1), next = below();
        left -= 1;
        if (count == 1 && touches(next, highest)) {
            // Nothing is in the way: the whole window slides, not one length of it after the other.
            const Segment both = joined(next, highest);
            const double under = slide(both, highest.len, density, n);
            const double taken = clamped(under, 0.0, both.len);
            const Segment rest{both.lo + taken, both.len - taken};
            const double kept = clamped(highest.len, 0.0, rest.len);
            const Segment slid{rest.lo, kept};
            at(0) = slid;
            push_left(Segment{both.lo, taken});
            push_right(Segment{rest.lo + kept, rest.len - kept});
            if (under > 0.0) break;
            mass = mass_of(slid, n);
            continue;
        }
        const double step = smaller(highest.len, next.len);
        double gained;
        const double t = root(wanted - mass, step, wanted, Shift{top(highest), top(next), false, n}, gained);
        mass += gained;
        count -= 1;
        const double of_next = clamped(t, 0.0, next.len), of_top = clamped(t, 0.0, highest.len);
        const Segment next_low{next.lo, next.len - of_next}, top_low{highest.lo, highest.len - of_top};
        push_back(top_low);
        push_left(next_low);
        push_right(Segment{top(top_low), of_top});
        push_front(Segment{top(next_low), of_next});
        if (t < step) break;
    }
    // Up: the window's bottom goes to the left of the cursor, as much comes in from the right above it. One window
    // length above the cursor lies what a denser window left behind; only rounding could ask for more.
    double risen = 0.0;
    while (mass < wanted && risen < length && has_front() && has_right()) {
        const Segment lowest = at(0), next = above();
        const double step = smaller(lowest.len, next.len);
        double gained;
        const double t = root(wanted - mass, step, wanted, Shift{lowest.lo, next.lo, true, n}, gained);
        mass += gained;
        risen += step;
        drop_front();
        right -= 1;
        const double of_lowest = clamped(t, 0.0, lowest.len), of_next = clamped(t, 0.0, next.len);
        push_front(Segment{lowest.lo + of_lowest, lowest.len - of_lowest});
        push_right(Segment{next.lo + of_next, next.len - of_next});
        push_left(Segment{lowest.lo, of_lowest});
        push_back(Segment{next.lo, of_next});
        if (t < step) break;
    }
}

// Builds the regions of the items of block `b` from its densest, the last, down to item `lowest`, and hands each to
// `found(item, windows)`. One lane's work.
template <class Found>
DRAFTPICK_DEVICE void cut_windows(
    const Segment* base, const Layout& layout, Drafts n, int b, int lowest, Windows& windows, const Found& found
) {
    const int start = layout.starts[b], end = layout.starts[b + 1];
    windows.head = windows.count = 0;
    windows.reset(base, layout.cuts[start], layout.cuts[end]);
    for (int i = end - 1; i >= lowest && !windows.full; i--) {
        if (end - start == 1) {
            // The pieces as they are, joined or not.
            windows.count = 0;
            for (int s = 0; s < windows.left; s++) {
                if (windows.count == windows.ring) {
                    windows.full = true;
                    break;
                }
                windows.count += 1;
                windows.at(windows.count - 1) = windows.free[s];
            }
        } else if (i == start) {
            windows.take_rest();
        } else {
            const Mass item = layout.items[i];
            windows.take(item.p, layout.slopes[b] * (item.q / item.p), n);
        }
        found(i, windows);
    }
}

}  // namespace draftpick
