// Which tokens of a row top-k, top-p and min-p leave: the search for the threshold, apart from how a row is added up.
//
// As `Sampling` of src/pmf.rs has it, in its order. Top-k keeps the k largest logits and what ties with the last of them.
// Top-p drops the least probable tokens of those while the mass dropped stays within 1 - p of theirs; of equal tokens the
// lower goes first, so that a tie may be split. Min-p drops what is less than its share of the largest.
//
// Each search is for the first key, from the lowest on, at which a sum passes a limit: level by level, the sums of 2,048
// bins of keys at a time. Sums are of integers, so that they do not depend on the order of their terms.
#pragma once
#include "team.cuh"

#ifndef __CUDACC__
#include <cstring>
#endif

namespace draftpick {

typedef unsigned long long Weight;

constexpr int BINS = 2048;

// What a mass of 1, that of the largest logit, is in units; masses below half a unit are none. Those of 2^18 tokens are
// below 2^62 together.
constexpr int MASS_BITS = 44;

DRAFTPICK_DEVICE unsigned bits_of(float x) {
#ifdef __CUDACC__
    return __float_as_uint(x);
#else
    unsigned bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
#endif
}

DRAFTPICK_DEVICE float number_of(unsigned bits) {
#ifdef __CUDACC__
    return __uint_as_float(bits);
#else
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
#endif
}

// ---- keys ------------------------------------------------------------------------------------------------------

// Integers in the order of the numbers; -0 is 0. Of no use for a NaN.
DRAFTPICK_DEVICE unsigned key_of(float x) {
    const unsigned bits = bits_of(x + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The number of a key of which the lowest `drop` bits were dropped: they are all 0, or all 1 below 0.
DRAFTPICK_DEVICE float number_at(unsigned key, int drop) {
    const unsigned whole = key << drop, rest = (1u << drop) - 1u;
    return number_of(whole & 0x80000000u ? whole & 0x7fffffffu : ~(whole | rest));
}

DRAFTPICK_DEVICE float minus_infinity() { return number_of(0xff800000u); }

// ---- masses ----------------------------------------------------------------------------------------------------

DRAFTPICK_DEVICE float power_of_2(float x) {
#ifdef __CUDACC__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return std::exp2(x);
#endif
}

// e^(x - most) in units, within 3e-7 of itself and half a unit; exactly 2^44 if x is `most`.
DRAFTPICK_DEVICE Weight mass_of(float x, float most) {
    const float apart = x - most;
    if (!(apart > -32.0f)) return 0;
    // What rounding left of the difference, and of its product with log2(e) in two parts.
    const float back = apart - x, lost = (x - (apart - back)) + (-most - back);
    const float log2_e = 1.44269502f, log2_e_rest = 1.92596299e-8f;
    const float power = apart * log2_e;
    const float rest = fmaf(apart, log2_e, -power) + (apart * log2_e_rest + lost * log2_e);
    float mass = power_of_2(power);
    mass = fmaf(mass * 0.693147181f, rest, mass);
    const unsigned bits = bits_of(mass), digits = (bits & 0x7fffffu) | 0x800000u;
    const int shift = int(bits >> 23) - 127 + MASS_BITS - 23;
    if (shift >= 0) return Weight(digits) << shift;
    return shift < -24 ? 0 : (digits + (1u << (-shift - 1))) >> -shift;
}

// How much of a mass `all` may go, in whole units: less than all of it.
DRAFTPICK_DEVICE Weight droppable(Weight all, float top_p) {
    const Weight limit = Weight((1.0 - double(top_p)) * double(all));
    return limit < all ? limit : all - 1;
}

// The lowest number that is at least `share` times as probable as `most`.
DRAFTPICK_DEVICE float least_of_share(float most, float share) {
    if (!(share > 0.0f)) return minus_infinity();
    auto stays = [&](unsigned key) { return !(exp(double(number_at(key, 0)) - double(most)) < double(share)); };
    const unsigned lowest = key_of(minus_infinity()), highest = key_of(most);
    unsigned guess = key_of(float(double(most) + log(double(share))));
    guess = guess < lowest ? lowest : guess > highest ? highest : guess;
    // One that does not stay, and one that does.
    unsigned out = guess, in = guess;
    for (unsigned step = 1; out > lowest && stays(out); step *= 2) out = out - lowest > step ? out - step : lowest;
    for (unsigned step = 1; in < highest && !stays(in); step *= 2) in = highest - in > step ? in + step : highest;
    while (in - out > 1) {
        const unsigned middle = out + (in - out) / 2;
        if (stays(middle)) {
            in = middle;
        } else {
            out = middle;
        }
    }
    return number_at(in, 0);
}

// ---- the search ------------------------------------------------------------------------------------------------

// What is added up: 1 a token, its mass, or 1 a token of one key, by the token's number.
enum What : int { TOKENS, MASSES, TIES };

// Keys that are told apart in one level, in bins of 2^shift.
struct Interval {
    unsigned low, high;
    int shift;
    DRAFTPICK_DEVICE Interval(unsigned low, unsigned high) : low(low), high(high), shift(0) {
        while ((high - low) >> shift >= BINS) shift += 1;
    }
    DRAFTPICK_DEVICE bool holds(unsigned key) const { return key - low <= high - low; }
    DRAFTPICK_DEVICE unsigned bin(unsigned key) const { return (key - low) >> shift; }
    DRAFTPICK_DEVICE Interval of_bin(unsigned bin) const {
        const unsigned from = low + (bin << shift), to = from + ((1u << shift) - 1u);
        return Interval(from, to < high ? to : high);
    }
};

// The bin in which a sum passes its limit: what lies below it, what is in it, and what is in all bins.
struct Bin {
    unsigned number;
    Weight below, own, all;
};

// The key at which it does.
struct Cut {
    unsigned key;
    Weight below, own, limit;
};

// A row is a `Row` with `level(what, interval, key, below, limit)`: the bin of the interval in which the sum passes
// `limit(all)`, begun with `below`; of `TIES` the tokens with the logit `key`.
template <class Row, class Limit>
DRAFTPICK_DEVICE Cut cut_of(Row& row, What what, unsigned low, unsigned high, unsigned key, const Limit& limit_of) {
    Interval at(low, high);
    Bin bin = row.level(what, at, key, Weight(0), limit_of);
    const Weight limit = limit_of(bin.all);
    while (at.shift > 0) {
        at = at.of_bin(bin.number);
        bin = row.level(what, at, key, bin.below, [&](Weight) { return limit; });
    }
    return Cut{at.low + bin.number, bin.below, bin.own, limit};
}

struct Filter {
    int top_k;    // the vocabulary's size or more: none
    float top_p;  // 1: none
    float min_p;  // 0: none
};

// Logits below `least` go, and those at `least` of the tokens before `tie`.
struct Threshold {
    float least;
    int tie;
};

// The threshold in a row of `vocab` logits with a finite largest one, `most`; the keys without their lowest `drop` bits.
template <class Row>
DRAFTPICK_DEVICE Threshold threshold_of(Row& row, const Filter& filter, int vocab, float most, int drop) {
    unsigned lowest = key_of(minus_infinity()) >> drop;
    const unsigned highest = key_of(most) >> drop;
    Threshold found{least_of_share(most, filter.min_p), 0};
    if (filter.top_k < vocab) {
        const Weight k = Weight(filter.top_k);
        lowest = cut_of(row, TOKENS, lowest, highest, 0u, [&](Weight all) { return all - k; }).key;
        const float least = number_at(lowest, drop);
        if (least > found.least) found.least = least;
    }
    if (filter.top_p < 1.0f) {
        const Cut cut =
            cut_of(row, MASSES, lowest, highest, 0u, [&](Weight all) { return droppable(all, filter.top_p); });
        const float least = number_at(cut.key, drop);
        if (least >= found.least) {
            found.least = least;
            const Weight one = mass_of(least, most), gone = (cut.limit - cut.below) / one;
            if (gone > 0) {
                found.tie = int(cut_of(row, TIES, 0u, unsigned(vocab - 1), cut.key, [&](Weight) { return gone; }).key);
            }
        }
    }
    return found;
}

}  // namespace draftpick
