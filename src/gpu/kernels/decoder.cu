// What a Llama computes between its matrix products, in four kernels: a call of one node or of a tree is so short that
// its launches are what it takes.
//
// DTYPE: 0 f32, 1 f16, 2 bf16: the type of weights, activations, keys and values. Sums are in f32.
#include "row.cuh"

#ifndef DTYPE
#define DTYPE 2
#endif

#if DTYPE == 0
typedef float Number;
#else
typedef unsigned short Number;
#endif

#define NORM_THREADS 256
#define ATTEND_THREADS 256
#define ATTEND_WARPS (ATTEND_THREADS / 32)
#define ABREAST 4       // slots that a warp looks at together
#define MOST_PAIRS 4    // pairs of dimensions that a lane sums: heads of up to 256 dimensions

static __device__ __forceinline__ float widen(Number x) {
#if DTYPE == 0
    return x;
#elif DTYPE == 1
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
#else
    return __uint_as_float((unsigned)x << 16);
#endif
}

static __device__ __forceinline__ Number narrow(float x) {
#if DTYPE == 0
    return x;
#elif DTYPE == 1
    Number y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
#else
    unsigned bits = __float_as_uint(x);
    // To the nearest, ties to even; a NaN stays one.
    if (!(x == x)) return 0x7fff;
    return (Number)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
#endif
}

// Two neighbouring numbers, the first at an even place.
static __device__ __forceinline__ float2 pair_at(const Number* x, int pair) {
#if DTYPE == 0
    return reinterpret_cast<const float2*>(x)[pair];
#else
    unsigned word = reinterpret_cast<const unsigned*>(x)[pair];
    return make_float2(widen((Number)(word & 0xffffu)), widen((Number)(word >> 16)));
#endif
}

static __device__ __forceinline__ float sum_of_warp(float x) {
    for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(~0u, x, step);
    return x;
}

// A block a row of `width`: sum = x + y, normed = sum/rms(sum)*weight; sum may be x. Without y (null) the sum is x and is
// not written.
// Dynamic shared memory: `width` floats.
extern "C" __global__ void __launch_bounds__(NORM_THREADS)
decoder_add_norm(const Number* x, const Number* y, const Number* weight, Number* sum, Number* normed, int width,
                 unsigned eps_bits) {
    extern __shared__ float row[];
    __shared__ float warps[NORM_THREADS / 32];
    long long at = (long long)blockIdx.x * width;
    float squares = 0.0f;
    for (int i = threadIdx.x; i < width; i += NORM_THREADS) {
        float value = widen(x[at + i]);
        if (y) {
            Number both = narrow(value + widen(y[at + i]));
            sum[at + i] = both;
            value = widen(both);
        }
        row[i] = value;
        squares += value * value;
    }
    squares = sum_of_warp(squares);
    if ((threadIdx.x & 31) == 0) warps[threadIdx.x / 32] = squares;
    __syncthreads();
    float total = 0.0f;
    for (int i = 0; i < NORM_THREADS / 32; i++) total += warps[i];
    float scale = rsqrtf(total / (float)width + __uint_as_float(eps_bits));
    for (int i = threadIdx.x; i < width; i += NORM_THREADS) normed[at + i] = narrow(row[i] * scale * widen(weight[i]));
}

// What a call says of its nodes, `nodes` of each: the position; the slots 0..first that the node sees; and where in
// `others` those that it sees besides begin. It sees position + 1 slots, its own the last.
struct Nodes {
    const int *positions, *firsts, *begins, *others;
    __device__ __forceinline__ Nodes(const int* meta, int nodes)
        : positions(meta), firsts(meta + nodes), begins(meta + 2 * nodes), others(meta + 3 * nodes) {}
};

// A block a new node of one sequence and a head of keys: turns the key and stores it and the value in the node's slot.
// `qkv` is [nodes][heads + 2*kv_heads][size], the nodes of the sequence are `first_row` and on; `keys` and `values` are
// [kv_heads][capacity][size]; `cosines` and `sines` [positions][size/2].
extern "C" __global__ void decoder_store(const Number* qkv, const float* cosines, const float* sines, const int* meta,
                                         Number* keys, Number* values, int nodes, int first_row, int first_slot,
                                         int capacity, int heads, int kv_heads, int size) {
    int node = (int)blockIdx.x / kv_heads, head = (int)blockIdx.x % kv_heads, row = first_row + node, half = size / 2;
    const Number* key = qkv + ((long long)row * (heads + 2 * kv_heads) + heads + head) * size;
    const Number* value = key + (long long)kv_heads * size;
    long long to = ((long long)head * capacity + first_slot + node) * size;
    long long turn = (long long)Nodes(meta, nodes).positions[row] * half;
    for (int i = threadIdx.x; i < half; i += blockDim.x) {
        float a = widen(key[i]), b = widen(key[i + half]), c = cosines[turn + i], s = sines[turn + i];
        keys[to + i] = narrow(a * c - b * s);
        keys[to + half + i] = narrow(a * s + b * c);
    }
    for (int i = threadIdx.x; i < size; i += blockDim.x) values[to + i] = value[i];
}

// A block a new node of one sequence and a head: its query, turned, against the keys that the node sees, and the mean of
// their values by the softmax of the products times `scale`. Writes [nodes][heads][size]. Dynamic shared memory: floats,
// `size` of the query, ATTEND_WARPS*size of partial sums, then one a slot seen.
extern "C" __global__ void __launch_bounds__(ATTEND_THREADS)
decoder_attend(const Number* qkv, const float* cosines, const float* sines, const int* meta, const Number* keys,
               const Number* values, Number* out, int nodes, int first_row, int capacity, int heads, int kv_heads,
               int size, unsigned scale_bits) {
    extern __shared__ float shared[];
    __shared__ float warps[ATTEND_WARPS];
    float *query = shared, *partial = query + size, *scores = partial + ATTEND_WARPS * size;
    int row = first_row + (int)blockIdx.x / heads, head = (int)blockIdx.x % heads, half = size / 2;
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x & 31;
    Nodes tree(meta, nodes);
    int position = tree.positions[row], seen = position + 1, first = tree.firsts[row];
    const int* others = tree.others + tree.begins[row];
    auto slot_of = [&](int i) { return i < first ? i : others[i - first]; };
    {
        const Number* from = qkv + ((long long)row * (heads + 2 * kv_heads) + head) * size;
        float scale = __uint_as_float(scale_bits);
        long long turn = (long long)position * half;
        for (int i = threadIdx.x; i < half; i += ATTEND_THREADS) {
            float a = widen(from[i]), b = widen(from[i + half]), c = cosines[turn + i], s = sines[turn + i];
            query[i] = (a * c - b * s) * scale;
            query[half + i] = (a * s + b * c) * scale;
        }
    }
    __syncthreads();
    long long own = (long long)(head / (heads / kv_heads)) * capacity;
    const Number *k = keys + own * size, *v = values + own * size;

    float most = __int_as_float(0xff800000);
    for (int base = warp * ABREAST; base < seen; base += ATTEND_WARPS * ABREAST) {
        float products[ABREAST];
#pragma unroll
        for (int j = 0; j < ABREAST; j++) {
            products[j] = 0.0f;
            const Number* key = k + (long long)slot_of(min(base + j, seen - 1)) * size;
            for (int i = lane; i < half; i += 32) {
                float2 x = pair_at(key, i);
                products[j] += x.x * query[2 * i] + x.y * query[2 * i + 1];
            }
        }
#pragma unroll
        for (int j = 0; j < ABREAST; j++) {
            float product = sum_of_warp(products[j]);
            if (base + j < seen) {
                most = fmaxf(most, product);
                if (lane == 0) scores[base + j] = product;
            }
        }
    }
    if (lane == 0) warps[warp] = most;
    __syncthreads();
    for (int i = 0; i < ATTEND_WARPS; i++) most = fmaxf(most, warps[i]);
    __syncthreads();
    float sum = 0.0f;
    for (int i = threadIdx.x; i < seen; i += ATTEND_THREADS) {
        float share = expf(scores[i] - most);
        scores[i] = share;
        sum += share;
    }
    sum = sum_of_warp(sum);
    if (lane == 0) warps[warp] = sum;
    __syncthreads();
    float total = 0.0f;
    for (int i = 0; i < ATTEND_WARPS; i++) total += warps[i];

    float2 sums[MOST_PAIRS];
#pragma unroll
    for (int p = 0; p < MOST_PAIRS; p++) sums[p] = make_float2(0.0f, 0.0f);
    for (int base = warp * ABREAST; base < seen; base += ATTEND_WARPS * ABREAST) {
#pragma unroll
        for (int j = 0; j < ABREAST; j++) {
            int i = min(base + j, seen - 1);
            float share = base + j < seen ? scores[i] : 0.0f;
            const Number* value = v + (long long)slot_of(i) * size;
#pragma unroll
            for (int p = 0; p < MOST_PAIRS; p++) {
                if (lane + 32 * p < half) {
                    float2 x = pair_at(value, lane + 32 * p);
                    sums[p].x += share * x.x;
                    sums[p].y += share * x.y;
                }
            }
        }
    }
#pragma unroll
    for (int p = 0; p < MOST_PAIRS; p++) {
        if (lane + 32 * p < half) {
            partial[warp * size + 2 * (lane + 32 * p)] = sums[p].x;
            partial[warp * size + 2 * (lane + 32 * p) + 1] = sums[p].y;
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < size; i += ATTEND_THREADS) {
        float all = 0.0f;
        for (int w = 0; w < ATTEND_WARPS; w++) all += partial[w * size + i];
        out[((long long)row * heads + head) * size + i] = narrow(all / total);
    }
}

// A thread a number of [nodes][width]: silu(gate)*up of the rows [gate | up].
extern "C" __global__ void decoder_gate(const Number* gate_up, Number* out, long long numbers, int width) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= numbers) return;
    long long at = i / width * (2LL * width) + i % width;
    float gate = widen(gate_up[at]), up = widen(gate_up[at + width]);
    out[i] = narrow(gate / (1.0f + expf(-gate)) * up);
}
