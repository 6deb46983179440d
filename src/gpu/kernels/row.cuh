// What the counting kernel leaves of a pair of rows, and what every later kernel reads. `src/gpu/mod.rs` describes it
// in words; the numbers are those of `Scan::counted` on the CPU.
#pragma once

// The most cells of a row pair: 64 drafts need 1,027, the path coupling's headroom 558 more.
#define MAX_CELLS 1600

// Why a row pair cannot be selected from. A row is refused whole: no token comes out of it.
enum RowFlag {
    ROW_OK = 0,
    ROW_DRAFT_NOT_A_NUMBER = 1,   // a draft logit is NaN, +inf or above 1e8; `token` says which
    ROW_TARGET_NOT_A_NUMBER = 2,  // the same of the target row
    ROW_DRAFT_ALL_MASKED = 4,     // all draft logits are -inf, or below -1e8
    ROW_TARGET_ALL_MASKED = 8,    // the same of the target row
    ROW_NOT_DRAWN = 16,           // a draft has probability 0 under its own law; `token` says which draft
    ROW_OUT_OF_VOCABULARY = 32,   // a draft is no token; `token` says which draft
    ROW_NO_RESIDUAL = 64,         // rejected, and rounding left neither the residual nor the target any mass
    ROW_TOO_MANY_CELLS = 128,     // the grid does not fit MAX_CELLS
    ROW_NO_SUCH_ROW = 256,        // the pair names a row that is not there
    ROW_TOO_MANY_DRAFTS = 512,    // the pair has more drafts than there is room for
    ROW_NO_FILTER = 1024,         // a top-k below 1, or a top-p or min-p outside [0, 1]: of a filter
};

// One for each row pair. Masses are shares: divided by the row's normaliser.
struct RowStats {
    double draft_log_sum;   // ln sum e^logit of the draft row, after temperature and masks
    double target_log_sum;  // the same of the target row
    int first;              // the grid number n of cell 1
    int cells;              // the number of cells = of edges, the infinite one included
    int flags;              // RowFlag, several or none
    int token;              // what the flag is about, -1 where there is nothing to name
};

// The draft and the target mass of a cell, in units of 2^COMMON_EXPONENT; the target mass of the last cell in finer ones.
struct CellCounts {
    unsigned long long p, q;
};

#define COMMON_EXPONENT -40
#define COMMON_LAST_EXPONENT -42

// The grid: a token of logits (d, t) has the number n = round((d - t)*per_width), in f32 and not fused, and lies in
// cell clamp(n - first + 1, 0, cells - 1). Finite edge j (0 <= j < cells - 1) is the upper end of cell j; its
// log-ratio ln(p/q) is (first + j - 0.5)*width - (draft_log_sum - target_log_sum), with width = 1/(double)per_width.
struct Grid {
    float per_width;     // cells per unit of log-ratio
    unsigned unused;
    double log_lowest;   // the log-ratio that the lowest finite edge must not exceed
};

// The highest finite edge is at or above this log-ratio; `LOG_HIGHEST` in classes.rs.
#define LOG_HIGHEST 8.0

#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__ __forceinline__
#else
#define HOST_DEVICE inline
#endif

// The log-ratio of finite edge 0.
HOST_DEVICE double log_of_lowest_edge(const RowStats& row, Grid grid) {
    double width = 1.0 / (double)grid.per_width;
    return ((double)row.first - 0.5) * width - (row.draft_log_sum - row.target_log_sum);
}
