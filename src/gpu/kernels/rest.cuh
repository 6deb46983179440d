// What a decision hands to the residual draw, in place of the cells of a pair that was rejected.
#pragma once
#include "batch.cuh"

struct Rest {
    double coin;          // the residual coin
    int classes;          // the cells, whose classes or open cell follow; 0 where all of the target is left
    // Of the exchange layout:
    int draft;            // the one to keep where the residual is no more than rounding, -1 for none
    int unknown;          // the class that has tokens with a residual and without, -1 for none: only a pass over the rows tells
    int last;             // the last class with a residual of those that are known, -1 for none
    double known;         // the sum of them
};

// Of k-SEQ, in the place of classes: the cell that holds rho*, and what is outside it. Inside, only the tokens tell how much of
// the draft mass is below and above a ratio.
struct OpenCell {
    double rho, beta;         // rho*, where it is known
    double below_p, above_q;  // the draft mass of lower ratios, the target mass of higher ones
    double p, q;              // its own
    double log_low;           // the log-ratio of its lower end
    int cell;                 // its number, -1 where rho* is known
    int decides;              // whether it hangs on rho* if a draft is accepted
};

// The residual q - m of one class of the exchange layout: max(q*of_q + p*of_p, 0) of each of its tokens.
struct ClassRest {
    double upto;          // the sum of it in the classes up to and with this one, but for the class `unknown`
    float of_q, of_p;
};

static_assert(sizeof(Rest) + CELLS_OF_RULE * sizeof(ClassRest) <= MAX_CELLS * sizeof(double2), "the cells have room");

__device__ __forceinline__ Rest& rest_of(const Batch& batch, int pair) {
    return *reinterpret_cast<Rest*>(batch.cells + (long long)pair * MAX_CELLS);
}
__device__ __forceinline__ OpenCell& open_cell_of(const Batch& batch, int pair) {
    return *reinterpret_cast<OpenCell*>(&rest_of(batch, pair) + 1);
}
__device__ __forceinline__ ClassRest* classes_of(const Batch& batch, int pair) {
    return reinterpret_cast<ClassRest*>(&rest_of(batch, pair) + 1);
}
