// What the plan of the order-statistic coupling hands to the residual draw, in place of the cells of a pair that was
// rejected.
#pragma once
#include "batch.cuh"

// How a pair stands after the plan; in `selected`, below every draft's number and -1.
#define REJECTED -2

// The sum of the residual in a class that has tokens with and without: only a pass over the rows tells.
#define UNKNOWN -1.0

// The residual q - m of one class: max(q*of_q + p*of_p, 0) of each of its tokens.
struct ClassRest {
    double mass;  // its sum, or UNKNOWN
    float of_q, of_p;
    int end;      // the first cell after the class
    int unused;
};

// Ahead of them.
struct Rest {
    int classes;
    int draft;    // the one to keep where the residual is no more than rounding, -1 for none
    int last;     // the last class that is UNKNOWN, -1 for none
    int unused;
    double known; // the sum of the masses of the others, if they are known
    double coin;  // the residual coin
};

static_assert(sizeof(Rest) + 1024 * sizeof(ClassRest) <= MAX_CELLS * sizeof(double2), "the cells have room");
