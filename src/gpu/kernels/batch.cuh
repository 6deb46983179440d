// What a call hands to the kernels: the rows of logits, the drafts, the coins. All addresses are device memory; an
// optional one may be null. Mirrors `Call` of `src/gpu/select.rs`.
#pragma once
#include "row.cuh"

#define MOST_DRAFTS 64

#define CELLS_OF_RULE 1040  // the most cells of a token rule

struct Batch {
    const void* draft;            // the first logit of the first draft row
    const void* target;
    long long draft_stride;       // from row to row, in logits
    long long target_stride;
    long long draft_count;        // how many rows there are
    long long target_count;
    const int* draft_rows;        // the row of each pair, negative where there is none; or null: pair i has row i
    const int* target_rows;
    const int* tokens;            // [pairs][k]: the drafts
    const int* counts;            // the number of drafts of each pair; or null: k
    const float* draft_scale;     // inverse temperatures, one a pair; or null: 1
    const float* target_scale;
    const float* draft_least;     // logits below it, after scaling, are masked; or null
    const float* target_least;
    const int* draft_tie;         // of the logits at `draft_least` itself those of tokens below it are masked; or null
    const int* target_tie;
    const double* coins;          // [pairs][k + 2]; or null: Philox
    const unsigned long long* seeds;
    const unsigned long long* starts;
    const int* depths;
    const Grid* grids;            // by the number of drafts, 0 to 64
    RowStats* stats;              // [pairs]
    double2* cells;               // [pairs][MAX_CELLS]: what is left to draw; or null
    CellCounts* counted;          // [pairs][CELLS_OF_RULE], 0 between calls; of a tree's nodes [pairs][MAX_CELLS]; or null
    double2* masses;              // [pairs][MOST_DRAFTS]: draft and target mass of each draft; or null
    double* draws;                // [pairs][MOST_DRAFTS + 2]: the coins of each pair; or null
    int* rejected;                // [2 + pairs]: how many pairs are left to draw for, how many clusters have none left, which pairs
    int* selected;                // [pairs]: the draft accepted, -1 for none
    int* output;                  // [pairs]: the token, -1 if the pair was refused
    int vocab;
    int pairs;
    int k;
    int chunk;                    // tokens of a block, a multiple of 8
    int logit_bytes;              // of a logit, where a kernel does not know the format
};
