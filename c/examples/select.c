/* Lossless selection from C: one position, a batch of chains as vLLM holds them, a tree of drafts.
 *
 * cc select.c $(pkg-config --cflags --libs draftpick) -lm -o select && ./select */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "draftpick.h"

#define VOCAB 4

/* Ends the program with the library's message. */
#define TRY(call)                                                                                                     \
    do {                                                                                                              \
        if ((call) != DRAFTPICK_STATUS_OK) {                                                                          \
            fprintf(stderr, "%s: %s\n", #call, draftpick_last_error());                                               \
            return 1;                                                                                                 \
        }                                                                                                             \
    } while (0)

/* One position, from probabilities: exact. */
static int one_position(void) {
    const double p[VOCAB] = {0.5, 0.3, 0.2, 0.0}, q[VOCAB] = {0.2, 0.3, 0.5, 0.0};
    double alpha, acceptance, law[VOCAB];
    TRY(draftpick_alpha_star(p, q, VOCAB, 2, &alpha));
    DraftpickSelector *selector = NULL;
    TRY(draftpick_selector_from_probabilities("optimal", p, q, VOCAB, 2, &selector));
    TRY(draftpick_selector_acceptance(selector, &acceptance, NULL));
    printf("alpha* %.4f, acceptance %.4f\n", alpha, acceptance);

    /* Lossless: the laws given all pairs of drafts add up to q. */
    double output[VOCAB] = {0};
    for (int32_t x = 0; x < 3; ++x) {
        for (int32_t y = 0; y < 3; ++y) {
            const int32_t drafts[2] = {x, y};
            TRY(draftpick_selector_law(selector, drafts, 2, law, VOCAB));
            for (int token = 0; token < VOCAB; ++token) output[token] += p[x] * p[y] * law[token];
        }
    }
    for (int token = 0; token < VOCAB; ++token) {
        if (!(fabs(output[token] - q[token]) < 1e-12)) {
            fprintf(stderr, "token %d comes out with %g, not %g\n", token, output[token], q[token]);
            return 1;
        }
    }

    const int32_t drafts[2] = {0, 2};
    const DraftpickCoins coins = {.seed = 7, .position = 100};
    int32_t token, accepted;
    TRY(draftpick_selector_select(selector, drafts, 2, &coins, &token, &accepted));
    printf("token %d, draft %d\n", (int)token, (int)accepted);

    /* What is refused is refused with a message. */
    const int32_t impossible[2] = {0, 3};
    if (draftpick_selector_select(selector, impossible, 2, &coins, &token, &accepted) != DRAFTPICK_STATUS_INPUT) return 1;
    printf("refused: %s\n", draftpick_last_error());
    if (draftpick_selector_select(NULL, drafts, 2, &coins, &token, &accepted) != DRAFTPICK_STATUS_ARGUMENT) return 1;
    if (strcmp(draftpick_last_error(), "selector is NULL") != 0) return 1;
    draftpick_selector_free(selector);
    draftpick_selector_free(NULL);
    return 0;
}

/* A batch of positions, from logits that are read where they lie. */
static int positions(void) {
    const float draft[2][VOCAB] = {{1.0f, 0.5f, 0.0f, -1.0f}, {0.0f, 1.0f, 0.0f, 1.0f}};
    const float target[2][VOCAB] = {{0.0f, 0.5f, 1.0f, -INFINITY}, {2.0f, 1.0f, 0.0f, 0.0f}};
    const DraftpickSampling warm = {.temperature = 0.8, .top_k = 0, .top_p = 1.0, .min_p = 0.0};
    const DraftpickSampling both[2] = {warm, warm};
    int32_t drafts[2][2], tokens[2], accepted[2];
    for (int i = 0; i < 2; ++i) {
        for (size_t j = 0; j < 2; ++j) {
            /* The coins that draw are others than those that select: another purpose. */
            double coin;
            TRY(draftpick_coin(7, 200 + (uint64_t)i, DRAFTPICK_PURPOSE_DRAFT, 0, j, &coin));
            TRY(draftpick_draw(draft[i], VOCAB, &warm, coin, &drafts[i][j]));
        }
    }
    const DraftpickCoins coins[2] = {{.seed = 7, .position = 200}, {.seed = 7, .position = 201}};
    const DraftpickPositions batch = {
        .count = 2, .k = 2, .vocab = VOCAB, .drafts = drafts[0], .draft_logits = draft[0], .target_logits = target[0],
        .draft_sampling = both, .target_sampling = both, .coins = coins,
    };
    TRY(draftpick_select("kseq", &batch, tokens, accepted));
    for (int i = 0; i < 2; ++i) printf("position %d: token %d, draft %d\n", i, (int)tokens[i], (int)accepted[i]);
    return 0;
}

/* Two requests with the drafts 1 2 and 3; the target is greedy. */
static int chains(void) {
    float target[3][6] = {{0}};
    target[0][1] = target[1][2] = target[2][3] = 9.0f;
    const int32_t drafts[3] = {1, 2, 3}, ends[2] = {2, 3}, bonus[2] = {5, 4};
    const DraftpickSampling greedy = {.temperature = 0.0, .top_p = 1.0};
    const DraftpickSampling sampling[2] = {greedy, greedy};
    const DraftpickCoins coins[2] = {{.seed = 1}, {.seed = 2}};
    const DraftpickChains batch = {
        .requests = 2, .max_spec_len = 2, .vocab = 6, .draft_token_ids = drafts, .cu_num_draft_tokens = ends,
        .target_logits = target[0], .bonus_token_ids = bonus, .sampling = sampling, .coins = coins,
    };
    int32_t out[2][3];
    TRY(draftpick_verify_chains("block", &batch, out[0]));
    /* All are kept, and each request's bonus token follows. */
    printf("chains:");
    for (int i = 0; i < 2; ++i) printf(" %d %d %d%s", (int)out[i][0], (int)out[i][1], (int)out[i][2], i == 0 ? " |" : "\n");
    return 0;
}

/* Coins of one's own, here for show: a program has better ones. */
static double toss(void *context, DraftpickPurpose purpose, size_t depth, size_t draft) {
    unsigned *calls = context;
    ++*calls;
    return fmod(0.37 + 0.21 * (double)purpose + 0.13 * (double)depth + 0.055 * (double)draft, 1.0);
}

/* Two paths, 0 1 and 0 2, as a tree: root, 0, 1, 2. The text goes on after all of them. */
static int trees(void) {
    const float draft[VOCAB] = {1.0f, 0.5f, 0.0f, -1.0f}, target[VOCAB] = {0.0f, 0.5f, 1.0f, -INFINITY};
    const int32_t tokens[4] = {0, 0, 1, 2}, parents[4] = {-1, 0, 1, 1};
    const float *draft_rows[4] = {draft, draft, NULL, NULL}, *target_rows[4] = {target, target, target, target};
    DraftpickTree batch[2] = {{
        .nodes = 4, .vocab = VOCAB, .tokens = tokens, .parents = parents, .draft_logits = draft_rows,
        .target_logits = target_rows, .coins = {.seed = 1, .position = 10},
    }};
    batch[1] = batch[0];
    batch[1].coins.seed = 2;
    int32_t out[2][3], nodes[2];
    size_t lengths[2];
    TRY(draftpick_verify_trees("path", batch, 2, out[0], 3, lengths, nodes));
    for (int i = 0; i < 2; ++i) {
        printf("tree %d: node %d, tokens", i, (int)nodes[i]);
        for (size_t j = 0; j < lengths[i]; ++j) printf(" %d", (int)out[i][j]);
        printf("\n");
    }
    unsigned calls = 0;
    batch[0].coins.toss = toss;
    batch[0].coins.context = &calls;
    TRY(draftpick_verify_trees("traversal", batch, 1, out[0], 3, lengths, NULL));
    printf("traversal: %zu tokens, %s\n", lengths[0], calls > 0 ? "coins tossed" : "no coin tossed");
    return calls == 0;
}

int main(void) {
    if (draftpick_abi_version() != DRAFTPICK_ABI_VERSION) {
        fprintf(stderr, "built for another version of the interface\n");
        return 1;
    }
    return one_position() || positions() || chains() || trees();
}
