// The exchange layout: src/exchange.rs over arrays of fixed capacity.
//
// Every item has an interval of labels in its place in the order, highest ratio first. What an item would be selected with
// there is too little or too much; items that lack mass exchange places with later ones that have more than enough. All of
// it is sums over the items: there is no search for a root, and nothing depends on a threshold.

#pragma once

#include "plan.cuh"

namespace draftpick {

// Items are the edges of a grid, the highest ratio first: item i is edge `count − 1 − i`. `count + 1` numbers in `lacks`
// and `exceeds`, `count` in the others.
struct Exchange {
    int count;
    // How many items are in H, the items that are drafted too often to be accepted always.
    int over;
    // The draft mass of all.
    double total;
    // Where each item's interval begins, how long it is, and the mean of k·u^(k−1) over it.
    double* places;
    double* lengths;
    double* densities;
    // What the items before each lack, and what they have too much; both are 0 at the end of H.
    double* lacks;
    double* exceeds;
    // The part of that axis on which both are found.
    double from, to;
    // 1/r of each edge.
    const double* inverses;

    DRAFTPICK_DEVICE double inverse_of(int item) const { return inverses[count - 1 - item]; }
    // What an item lacks; negative for one that has too much.
    DRAFTPICK_DEVICE double lack(int item) const {
        return lengths[item] * (total * inverse_of(item) - densities[item]);
    }
};

// What of the draft mass of a class, not the lowest, is on its upper edge.
DRAFTPICK_DEVICE double upper_part(const Edges& edges, Mass masses, int of) {
    const double high = edges.inverses[of - 1], low = edges.inverses[of];
    return clamped(ratio(masses.p * high - masses.q, high - low), 0.0, masses.p);
}

// Lays the edges out, of which `edges` has all and `classes` the masses.
template <class Team>
DRAFTPICK_DEVICE void exchange(const Team& team, const Edges& edges, const Mass* classes, Drafts n, Exchange& layout) {
    const int count = edges.len, each = (count + Team::LANES - 1) / Team::LANES;
    const int from = smaller(team.lane() * each, count), end = smaller(from + each, count);
    layout.count = count;
    layout.inverses = edges.inverses;
    double own = 0.0, all;
    // An edge has the upper part of the class below it and the lower part of the one above.
    double lower = from > 0 && from < count ? classes[count - from].p - upper_part(edges, classes[count - from], count - from) : 0.0;
    for (int i = from; i < end; i++) {
        const int of = count - 1 - i;
        const double p = classes[of].p, upper = of == 0 ? p : upper_part(edges, classes[of], of);
        own += layout.lengths[i] = lower + upper;
        lower = p - upper;
    }
    double place = team.scan(own, all) - own;
    layout.total = all;
    const double per_total = 1.0 / all;
    place *= per_total;
    double lacking = 0.0, exceeding = 0.0;
    for (int i = from; i < end; i++) {
        const double length = layout.lengths[i] * per_total;
        layout.places[i] = place;
        layout.lengths[i] = length;
        layout.densities[i] = mean_density(place, place + length, n);
        place += length;
        const double lack = layout.lack(i);
        lacking += larger(lack, 0.0);
        exceeding += larger(-lack, 0.0);
    }
    double all_lacking, all_exceeding, lacks = lacking, exceeds = exceeding;
    team.scan(lacks, exceeds, all_lacking, all_exceeding);
    lacks -= lacking, exceeds -= exceeding;
    // H ends where the sum of what its items lack, less what they have too much, is least.
    double least = 0.0, lacks_at = 0.0, exceeds_at = 0.0;
    int over = 0;
    for (int i = from; i < end; i++) {
        layout.lacks[i] = lacks;
        layout.exceeds[i] = exceeds;
        const double lack = layout.lack(i);
        lacks += larger(lack, 0.0);
        exceeds += larger(-lack, 0.0);
        if (lacks - exceeds < least) least = lacks - exceeds, over = i + 1, lacks_at = lacks, exceeds_at = exceeds;
    }
    // The first of several; none where nothing is below 0.
    const double most = team.max(-least);
    const int owner = team.first(over > 0 && -least == most);
    layout.over = owner < Team::LANES ? team.from(over, owner) : 0;
    lacks_at = owner < Team::LANES ? team.from(lacks_at, owner) : 0.0;
    exceeds_at = owner < Team::LANES ? team.from(exceeds_at, owner) : 0.0;
    for (int i = from; i < end; i++) {
        layout.lacks[i] -= lacks_at;
        layout.exceeds[i] -= exceeds_at;
    }
    if (team.lane() == 0) {
        layout.lacks[count] = all_lacking - lacks_at;
        layout.exceeds[count] = all_exceeding - exceeds_at;
    }
    layout.from = -lacks_at;
    layout.to = all_exceeding - exceeds_at;
    team.sync();
}

// How many times as often as it is drafted an item is selected.
DRAFTPICK_DEVICE double exchanged_density(const Exchange& layout, int item) {
    const double lack = layout.lack(item), length = layout.lengths[item];
    if (!(length > 0.0)) return layout.densities[item];
    // Items of H that lacked mass have what they need, and so have the others that had too much.
    if (item < layout.over ? lack >= 0.0 : lack <= 0.0) return layout.inverse_of(item);
    const double* own = lack > 0.0 ? layout.lacks : layout.exceeds;
    const double matched = larger(smaller(own[item + 1], layout.to) - larger(own[item], layout.from), 0.0);
    const double density = layout.densities[item];
    return (lack > 0.0 ? density + matched / length : density - matched / length) / layout.total;
}

// The label of a draft on an item, at the share `coin` of its law: first the intervals of the items that it exchanges
// places with, in their order, then its own.
template <class Team>
DRAFTPICK_DEVICE double exchanged_label(const Team& team, const Exchange& layout, int item, double coin) {
    const double lack = layout.lack(item), length = layout.lengths[item];
    const double* own = lack > 0.0 ? layout.lacks : layout.exceeds;
    const double* other = lack > 0.0 ? layout.exceeds : layout.lacks;
    const double begin = larger(own[item], layout.from), end = smaller(own[item + 1], layout.to);
    const double wanted = coin * length;
    double moved = 0.0;
    if (lack != 0.0 && begin < end) {
        // The first item of the other kind beyond `begin`.
        int low = 0, high = layout.count;
        while (low < high) {
            const int middle = (low + high) / 2;
            if (other[middle + 1] > begin) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        for (int start = low; start < layout.count && other[start] < end; start += Team::LANES) {
            const int o = start + team.lane();
            double flow = 0.0;
            if (o < layout.count) {
                const double matched = smaller(other[o + 1], end) - larger(other[o], begin);
                const double gap = fabs(layout.densities[o] - layout.densities[item]);
                if (matched > 0.0 && gap > 0.0) flow = matched / gap;
            }
            const double upto = moved + team.scan(flow);
            const int found = team.first(flow > 0.0 && wanted < upto);
            if (found < Team::LANES) {
                const double share = clamped((wanted - (team.from(upto, found) - team.from(flow, found))) / team.from(flow, found), 0.0, 1.0);
                return layout.places[start + found] + layout.lengths[start + found] * share;
            }
            moved = team.from(upto, Team::LANES - 1);
        }
    }
    const double left = length - moved;
    const double share = left > 0.0 ? clamped((wanted - moved) / left, 0.0, 1.0) : 0.0;
    return layout.places[item] + length * share;
}

}  // namespace draftpick
