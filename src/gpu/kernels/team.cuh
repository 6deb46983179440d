// What lets one source serve the GPU and a plain C++17 compiler: marks for device functions, and teams.
//
// A team is a group of lanes that run a function together: the 32 lanes of a warp on the GPU, one alone anywhere. Sums
// and searches go through the team; with one lane they are the loops of the Rust code, in its order, so that a host
// build compares equal to it. Under NVRTC, which has none, no header of the system is included.

#pragma once

#ifdef __CUDACC__
#define DRAFTPICK_DEVICE __device__ __forceinline__
#define DRAFTPICK_CALL __device__ __forceinline__
#define DRAFTPICK_RESTRICT __restrict__
#else
#include <cmath>
#define DRAFTPICK_DEVICE inline
#define DRAFTPICK_CALL inline
#define DRAFTPICK_RESTRICT
#endif

namespace draftpick {

#ifndef __CUDACC__
using std::exp;
using std::expm1;
using std::floor;
using std::ceil;
using std::log;
using std::log1p;
using std::pow;
using std::sqrt;
using std::fabs;
#endif

// The distance from 1 to the next number of f64.
constexpr double EPSILON = 2.220446049250313e-16;

// What a fixed capacity does not hold is reported.
enum Status : int {
    OK = 0,
    // More ratio edges than there is room for.
    TOO_MANY_EDGES = 1,
    // A region or a free list of more segments than there is room for.
    TOO_MANY_SEGMENTS = 2,
    // The residual law has no mass.
    NO_RESIDUAL = 3,
};

DRAFTPICK_DEVICE double larger(double a, double b) { return a > b ? a : b; }
DRAFTPICK_DEVICE double smaller(double a, double b) { return a < b ? a : b; }
DRAFTPICK_DEVICE int larger(int a, int b) { return a > b ? a : b; }
DRAFTPICK_DEVICE int smaller(int a, int b) { return a < b ? a : b; }

// f64 to f64, NaN passed through, as `f64::clamp`.
DRAFTPICK_DEVICE double clamped(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

// a/b where a correction needs few digits: relative 1e-6.
DRAFTPICK_DEVICE double roughly(double a, double b) {
#ifdef __CUDACC__
    double inverse;
    asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(inverse) : "d"(b));
    return a * inverse;
#else
    return a / b;
#endif
}

// a/b, but for the last digits.
DRAFTPICK_DEVICE double ratio(double a, double b) {
#ifdef __CUDACC__
    double inverse;
    asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(inverse) : "d"(b));
    inverse = fma(fma(-b, inverse, 1.0), inverse, inverse);
    inverse = fma(fma(-b, inverse, 1.0), inverse, inverse);
    return b > 1e-290 && b < 1e290 ? a * inverse : a / b;
#else
    return a / b;
#endif
}

// One lane.
struct One {
    static constexpr int LANES = 1;
    // Lanes that add up a stretch together.
    static constexpr int GROUP = 1;
    DRAFTPICK_DEVICE int lane() const { return 0; }
    DRAFTPICK_DEVICE void sync() const {}
    // Σ over the lanes, for all of them.
    DRAFTPICK_DEVICE double sum(double x) const { return x; }
    // Σ over the lanes of a group, for all of them.
    DRAFTPICK_DEVICE double group_sum(double x) const { return x; }
    // The largest over the lanes, for all of them.
    DRAFTPICK_DEVICE double max(double x) const { return x; }
    // Σ over the lanes up to and with this one; `all` is that over all of them.
    DRAFTPICK_DEVICE double scan(double x) const { return x; }
    DRAFTPICK_DEVICE double scan(double x, double& all) const { return all = x; }
    // The same of two at a time, in place.
    DRAFTPICK_DEVICE void scan(double& x, double& y, double& all_x, double& all_y) const { all_x = x, all_y = y; }
    // What `lane` holds.
    DRAFTPICK_DEVICE double from(double x, int) const { return x; }
    DRAFTPICK_DEVICE int from(int x, int) const { return x; }
    // The first lane for which `yes` holds, or LANES.
    DRAFTPICK_DEVICE int first(bool yes) const { return yes ? 0 : 1; }
    // The number of lanes before this one, and in all, for which `yes` holds.
    DRAFTPICK_DEVICE int before(bool yes, int& all) const {
        all = yes ? 1 : 0;
        return 0;
    }
};

#ifdef __CUDACC__
// The 32 lanes of a warp, all of them present.
struct Warp {
    static constexpr int LANES = 32;
    static constexpr int GROUP = 8;
    static constexpr unsigned ALL = 0xffffffffu;
    DRAFTPICK_DEVICE int lane() const { return threadIdx.x & 31; }
    DRAFTPICK_DEVICE void sync() const { __syncwarp(); }
    DRAFTPICK_DEVICE double sum(double x) const {
        for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(ALL, x, step);
        return x;
    }
    DRAFTPICK_DEVICE double group_sum(double x) const {
        for (int step = GROUP / 2; step > 0; step >>= 1) x += __shfl_xor_sync(ALL, x, step);
        return x;
    }
    DRAFTPICK_DEVICE double max(double x) const {
        for (int step = 16; step > 0; step >>= 1) x = larger(x, __shfl_xor_sync(ALL, x, step));
        return x;
    }
    DRAFTPICK_DEVICE double scan(double x) const {
        for (int step = 1; step < LANES; step <<= 1) {
            const double below = __shfl_up_sync(ALL, x, step);
            if (lane() >= step) x += below;
        }
        return x;
    }
    DRAFTPICK_DEVICE double from(double x, int lane) const { return __shfl_sync(ALL, x, lane); }
    DRAFTPICK_DEVICE int from(int x, int lane) const { return __shfl_sync(ALL, x, lane); }
    DRAFTPICK_DEVICE int first(bool yes) const {
        const unsigned found = __ballot_sync(ALL, yes);
        return found == 0 ? LANES : __ffs(int(found)) - 1;
    }
    DRAFTPICK_DEVICE int before(bool yes, int& all) const {
        const unsigned found = __ballot_sync(ALL, yes);
        all = __popc(found);
        return __popc(found & ((1u << lane()) - 1));
    }
};

// All threads of a block. `scratch` holds six numbers a warp: two for single sums and four for pairs of them; they go to either
// half in turn, so that one barrier each is enough.
struct Block {
    static constexpr int LANES = 256;
    static constexpr int WARPS_OF_TEAM = LANES / 32;
    static constexpr unsigned ALL = 0xffffffffu;
    double* scratch;
    mutable int turn, turn_of_two;

    DRAFTPICK_DEVICE int lane() const { return threadIdx.x; }
    DRAFTPICK_DEVICE void sync() const { __syncthreads(); }
    DRAFTPICK_DEVICE double* half() const {
        turn ^= WARPS_OF_TEAM;
        return scratch + turn;
    }
    DRAFTPICK_DEVICE double sum(double x) const {
        double* sums = half();
        for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(ALL, x, step);
        if ((threadIdx.x & 31) == 0) sums[threadIdx.x / 32] = x;
        __syncthreads();
        x = 0.0;
        for (int warp = 0; warp < WARPS_OF_TEAM; warp++) x += sums[warp];
        return x;
    }
    DRAFTPICK_DEVICE double max(double x) const {
        double* most = half();
        for (int step = 16; step > 0; step >>= 1) x = larger(x, __shfl_xor_sync(ALL, x, step));
        if ((threadIdx.x & 31) == 0) most[threadIdx.x / 32] = x;
        __syncthreads();
        x = most[0];
        for (int warp = 1; warp < WARPS_OF_TEAM; warp++) x = larger(x, most[warp]);
        return x;
    }
    DRAFTPICK_DEVICE double scan(double x, double& all) const {
        double* sums = half();
        for (int step = 1; step < 32; step <<= 1) {
            const double below = __shfl_up_sync(ALL, x, step);
            if ((threadIdx.x & 31) >= step) x += below;
        }
        if ((threadIdx.x & 31) == 31) sums[threadIdx.x / 32] = x;
        __syncthreads();
        all = 0.0;
        for (int warp = 0; warp < WARPS_OF_TEAM; warp++) {
            if (warp == int(threadIdx.x / 32)) x += all;
            all += sums[warp];
        }
        return x;
    }
    DRAFTPICK_DEVICE double scan(double x) const {
        double all;
        return scan(x, all);
    }
    DRAFTPICK_DEVICE void scan(double& x, double& y, double& all_x, double& all_y) const {
        turn_of_two ^= 2 * WARPS_OF_TEAM;
        double* sums = scratch + 2 * WARPS_OF_TEAM + turn_of_two;
        for (int step = 1; step < 32; step <<= 1) {
            const double x_below = __shfl_up_sync(ALL, x, step), y_below = __shfl_up_sync(ALL, y, step);
            if ((threadIdx.x & 31) >= step) x += x_below, y += y_below;
        }
        if ((threadIdx.x & 31) == 31) sums[threadIdx.x / 32] = x, sums[WARPS_OF_TEAM + threadIdx.x / 32] = y;
        __syncthreads();
        all_x = all_y = 0.0;
        for (int warp = 0; warp < WARPS_OF_TEAM; warp++) {
            if (warp == int(threadIdx.x / 32)) x += all_x, y += all_y;
            all_x += sums[warp], all_y += sums[WARPS_OF_TEAM + warp];
        }
    }
    DRAFTPICK_DEVICE double from(double x, int lane) const {
        double* value = half();
        if (int(threadIdx.x) == lane) value[0] = x;
        __syncthreads();
        return value[0];
    }
    DRAFTPICK_DEVICE int from(int x, int lane) const { return int(from(double(x), lane)); }
    DRAFTPICK_DEVICE int first(bool yes) const {
        const unsigned found = __ballot_sync(ALL, yes);
        const int lane = found == 0 ? LANES : int(threadIdx.x & ~31u) + __ffs(int(found)) - 1;
        double* lanes = half();
        if ((threadIdx.x & 31) == 0) lanes[threadIdx.x / 32] = double(lane);
        __syncthreads();
        double least = lanes[0];
        for (int warp = 1; warp < WARPS_OF_TEAM; warp++) least = smaller(least, lanes[warp]);
        return int(least);
    }
};
#endif

}  // namespace draftpick
