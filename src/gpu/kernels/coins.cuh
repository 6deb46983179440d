// The coins of a round, as `RoundCoins` on the CPU gives them: Philox4x32-10 (Salmon et al. 2011).
#pragma once

enum Purpose { COIN_DRAFT = 0, COIN_EDGE = 1, COIN_LABEL = 2, COIN_ACCEPT = 3, COIN_RESIDUAL = 4 };

#ifdef __CUDACC__
#define COIN_DEVICE __host__ __device__ __forceinline__
#else
#define COIN_DEVICE inline
#endif

// The coin of `purpose`, `depth` tokens below the root of the round that starts after `start` tokens, for one draft.
COIN_DEVICE double philox_coin(unsigned long long seed, unsigned long long start, unsigned purpose, unsigned depth,
                               unsigned draft) {
    unsigned c0 = (unsigned)start, c1 = (unsigned)(start >> 32), c2 = depth, c3 = purpose << 16 | draft;
    unsigned k0 = (unsigned)seed, k1 = (unsigned)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        unsigned long long a = 0xD2511F53ull * c0, b = 0xCD9E8D57ull * c2;
        unsigned n0 = (unsigned)(b >> 32) ^ c1 ^ k0, n2 = (unsigned)(a >> 32) ^ c3 ^ k1;
        c0 = n0, c1 = (unsigned)b, c2 = n2, c3 = (unsigned)a;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    unsigned long long bits = ((unsigned long long)c0 << 32 | c1) >> 11;
    return (double)bits * 1.1102230246251565e-16;  // 2^-53
}
