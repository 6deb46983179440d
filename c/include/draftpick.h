#ifndef DRAFTPICK_H
#define DRAFTPICK_H

/* Made by cbindgen from c/src; tests/header.rs says when it is out of date and how to renew it. */

#include <stddef.h>
#include <stdint.h>

// The version of this interface. It grows when a program built against an older header would no longer work.
#define DRAFTPICK_ABI_VERSION 1

// What a call ended in.
typedef enum DraftpickStatus {
  // Done.
  DRAFTPICK_STATUS_OK = 0,
  // A pointer that must not be NULL is, a name is not known, or an output has not enough room.
  DRAFTPICK_STATUS_ARGUMENT = 1,
  // The input was refused: no law, a token that cannot have been drafted, a number out of range.
  DRAFTPICK_STATUS_INPUT = 2,
  // A mistake in this library. Whatever the call was about is not to be used again.
  DRAFTPICK_STATUS_INTERNAL = 4,
} DraftpickStatus;

// What a coin decides.
typedef enum DraftpickPurpose {
  // The next token of a draft; not asked for here.
  DRAFTPICK_PURPOSE_DRAFT = 0,
  // Which of a drafted token's two virtual tokens it is (verifier "path").
  DRAFTPICK_PURPOSE_EDGE = 1,
  // The label of a draft, or its own acceptance.
  DRAFTPICK_PURPOSE_LABEL = 2,
  // An acceptance.
  DRAFTPICK_PURPOSE_ACCEPT = 3,
  // The token after the accepted ones.
  DRAFTPICK_PURPOSE_RESIDUAL = 4,
} DraftpickPurpose;

// A rule prepared for one position; may be used by several threads at once.
typedef struct DraftpickSelector DraftpickSelector;

// How logits become a law: temperature, then the filters, in this order. {1, 0, 1, 0} leaves logits as they are.
typedef struct DraftpickSampling {
  // Divides the logits; finite and at least 0. 0 is greedy.
  double temperature;
  // Keeps the tokens whose logit is at least the top_k-th largest; 0 keeps all.
  uint32_t top_k;
  // Keeps the most probable tokens until their mass reaches top_p, in [0, 1]; 1 keeps all.
  double top_p;
  // Keeps the tokens at least min_p times as probable as the most probable one, in [0, 1]; 0 keeps all.
  double min_p;
} DraftpickSampling;

// A number in [0, 1), uniform and independent of all others, the same whenever it is asked for with the same address. It
// must not throw, jump out, or call draftpick_last_error for the call that it is part of.
typedef double (*DraftpickToss)(void *context, enum DraftpickPurpose purpose, size_t depth, size_t draft);

// The coins of one request: by seed and position, or tossed by the caller. Independent of those that drew the drafts.
typedef struct DraftpickCoins {
  // The request's seed. The same seed and position give the same coins: never use a pair of them for two rounds.
  uint64_t seed;
  // The number of tokens before the round's first.
  uint64_t position;
  // NULL for coins by seed and position; else it is called, on the calling thread, in their place.
  DraftpickToss toss;
  // What `toss` is given.
  void *context;
} DraftpickCoins;

// A batch of positions, at each of which k tokens were drafted.
typedef struct DraftpickPositions {
  // The number of positions.
  size_t count;
  // The number of drafts at each, 1 to 64.
  size_t k;
  // The size of the vocabulary.
  size_t vocab;
  // [count, k] tokens, drawn from the draft law.
  const int32_t *drafts;
  // [count, vocab] logits of the draft model, read in place.
  const float *draft_logits;
  // From one row of draft_logits to the next, in elements; 0 for vocab.
  size_t draft_stride;
  // [count, vocab] logits of the target model, read in place.
  const float *target_logits;
  // From one row of target_logits to the next, in elements; 0 for vocab.
  size_t target_stride;
  // [count], what the drafts were drawn with; NULL if the logits have it applied.
  const struct DraftpickSampling *draft_sampling;
  // [count], what the output is to be drawn with; NULL if the logits have it applied.
  const struct DraftpickSampling *target_sampling;
  // [count]
  const struct DraftpickCoins *coins;
} DraftpickPositions;

// A ragged batch of drafted chains, one a request, end to end: as vLLM's rejection sampler takes it.
typedef struct DraftpickChains {
  // The number of requests B.
  size_t requests;
  // The most drafts of a request; the output has one column more.
  size_t max_spec_len;
  // The size of the vocabulary.
  size_t vocab;
  // [N] the drafts of all requests.
  const int32_t *draft_token_ids;
  // [B] the number of drafts of the requests up to this one, itself included; the last is N.
  const int32_t *cu_num_draft_tokens;
  // [N, vocab] the probabilities that each draft was drawn by, after temperature and filters; NULL for drafts that were
  // not drawn at random (n-grams).
  const float *draft_probs;
  // From one row of draft_probs to the next, in elements; 0 for vocab.
  size_t draft_stride;
  // [N, vocab] the target's logits at each draft, read in place.
  const float *target_logits;
  // From one row of target_logits to the next, in elements; 0 for vocab.
  size_t target_stride;
  // [B] what follows if all drafts of a request are kept, drawn from the target.
  const int32_t *bonus_token_ids;
  // [B], applied to target_logits (temperature 0: a greedy request); NULL if they have it applied.
  const struct DraftpickSampling *sampling;
  // [B]
  const struct DraftpickCoins *coins;
} DraftpickChains;

// A drafted tree with both models' logits: node 0 is the root, the text so far, and every other node is a drafted token
// that comes after its parent.
//
// Each leaf is the end of one of K independently drafted paths, 1 to 64; paths that agree may share nodes or not. K paths
// of L tokens are such a tree too, of 1 + K L nodes.
typedef struct DraftpickTree {
  // The number of nodes.
  size_t nodes;
  // The size of the vocabulary.
  size_t vocab;
  // [nodes] tokens[0] is not looked at.
  const int32_t *tokens;
  // [nodes] parents[0] is -1.
  const int32_t *parents;
  // [nodes] the draft model's logits after each node, from which its children were drawn; NULL for a leaf, where they are
  // not looked at. NULL for the whole: the drafts were not drawn at random (n-grams, the best k).
  const float *const *draft_logits;
  // [nodes] the target model's logits after each node; NULL for a leaf at which the text ends.
  const float *const *target_logits;
  // What the drafts were drawn with; NULL if the logits have it applied.
  const struct DraftpickSampling *draft_sampling;
  // What the output is to be drawn with; NULL if the logits have it applied.
  const struct DraftpickSampling *target_sampling;
  // The coins of the tree.
  struct DraftpickCoins coins;
} DraftpickTree;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the interface of the library that is loaded: compare it with DRAFTPICK_ABI_VERSION.
uint32_t draftpick_abi_version(void);

// The version of the library, as in "0.1.0".
const char *draftpick_version(void);

// Why the last call of this thread that failed did so. Valid until the next call of this thread that fails; "" if none
// has.
const char *draftpick_last_error(void);

// The largest probability with which any rule accepts one of k independent drafts: alpha*. O(V log V).
//
// draft and target hold `vocab` probabilities each, which add up to 1 within 1e-9.
//
// # Safety
// The pointers point to as much as is said.
enum DraftpickStatus draftpick_alpha_star(const double *draft,
                                          const double *target,
                                          size_t vocab,
                                          size_t k,
                                          double *alpha);

// The coin of a seed and a position with one address: what DraftpickCoins without `toss` stands for. purpose is a
// DraftpickPurpose; draft the draft's number, 0 where there is none to tell apart.
//
// # Safety
// `coin` has room for one number.
enum DraftpickStatus draftpick_coin(uint64_t seed,
                                    uint64_t position,
                                    uint32_t purpose,
                                    size_t depth,
                                    size_t draft,
                                    double *coin);

// Draws a token from `vocab` logits by a coin in [0, 1), after sampling (NULL: none): how drafts are to be drawn. One of
// probability 0 never comes out.
//
// # Safety
// The pointers point to as much as is said.
enum DraftpickStatus draftpick_draw(const float *logits,
                                    size_t vocab,
                                    const struct DraftpickSampling *sampling,
                                    double coin,
                                    int32_t *token);

// Prepares a rule for k drafts of one position from `vocab` probabilities of each model, which are copied.
//
// rule is "maximal" (k = 1), "rrs", "rrs-wor", "kseq", "optimal" or "optimal-linear". *selector is written only on
// success, and to be freed by draftpick_selector_free.
//
// # Safety
// The pointers point to as much as is said.
enum DraftpickStatus draftpick_selector_from_probabilities(const char *rule,
                                                           const double *draft,
                                                           const double *target,
                                                           size_t vocab,
                                                           size_t k,
                                                           struct DraftpickSelector **selector);

// Prepares a rule for k drafts of one position from `vocab` logits of each model, which are copied. The sampling may be
// NULL: the logits have it applied, with filtered tokens at -INFINITY. The rest is as in
// draftpick_selector_from_probabilities.
//
// # Safety
// The pointers point to as much as is said.
enum DraftpickStatus draftpick_selector_from_logits(const char *rule,
                                                    const float *draft,
                                                    const float *target,
                                                    size_t vocab,
                                                    const struct DraftpickSampling *draft_sampling,
                                                    const struct DraftpickSampling *target_sampling,
                                                    size_t k,
                                                    struct DraftpickSelector **selector);

// Frees a selector; NULL is none. No other thread may be using it.
//
// # Safety
// The selector came from this library and was not freed before.
void draftpick_selector_free(struct DraftpickSelector *selector);

// The number of drafts that the selector takes: k, but for "rrs-wor" where the draft law has fewer tokens.
//
// # Safety
// The selector is one; drafts has room for one number.
enum DraftpickStatus draftpick_selector_drafts(const struct DraftpickSelector *selector, size_t *drafts);

// The probability that a draft is accepted; standard_error, which may be NULL, is 0 if it is exact.
//
// # Safety
// The selector is one; the outputs have room for one number each.
enum DraftpickStatus draftpick_selector_acceptance(const struct DraftpickSelector *selector,
                                                   double *acceptance,
                                                   double *standard_error);

// The law of the output given `count` drafts: `vocab` probabilities, as many as the selector has tokens.
//
// # Safety
// The selector is one; the pointers point to as much as is said.
enum DraftpickStatus draftpick_selector_law(const struct DraftpickSelector *selector,
                                            const int32_t *drafts,
                                            size_t count,
                                            double *law,
                                            size_t vocab);

// Selects among `count` drafts. The coins are those of depth 0: one DRAFTPICK_PURPOSE_LABEL a draft, one ACCEPT, one RESIDUAL.
//
// token becomes the output token; accepted, which may be NULL, the draft that it is, or -1 if none was accepted.
//
// # Safety
// The selector is one; the pointers point to as much as is said.
enum DraftpickStatus draftpick_selector_select(const struct DraftpickSelector *selector,
                                               const int32_t *drafts,
                                               size_t count,
                                               const struct DraftpickCoins *coins,
                                               int32_t *token,
                                               int32_t *accepted);

// Prepares a rule at every position of a batch and selects among its drafts.
//
// tokens becomes the [count] output tokens; accepted, which may be NULL, the [count] drafts that they are, or -1 where none
// was accepted. If one position is refused, nothing is written. O(V) a position for "optimal-linear", "kseq" and "maximal".
//
// # Safety
// The pointers point to as much as is said, also those in the batch.
enum DraftpickStatus draftpick_select(const char *rule,
                                      const struct DraftpickPositions *batch,
                                      int32_t *tokens,
                                      int32_t *accepted);

// Verifies one drafted chain for each request of a ragged batch.
//
// verifier is "block", "path" or "traversal" (the same for a chain), or "token:RULE" for SpecTr's recursion over a rule. output
// becomes [requests, max_spec_len + 1] tokens: the drafts that are kept, one token more, then -1. If one request is refused,
// nothing is written.
//
// # Safety
// The pointers point to as much as is said, also those in the batch.
enum DraftpickStatus draftpick_verify_chains(const char *verifier,
                                             const struct DraftpickChains *batch,
                                             int32_t *output);

// Verifies `count` trees, each for a text of its own.
//
// verifier is "path" or "spread", "traversal", "block" (one path), or "token:RULE" for SpecTr's recursion over a rule; it is
// not looked at where a tree has no draft logits. tokens becomes [count, room]: what is output of each tree, then -1; a room
// of the longest path's length and one more is enough. lengths becomes the [count] numbers of tokens; nodes, which may be
// NULL, the [count] nodes at which the output leaves the trees, whose ways are to be kept in caches. If one tree is refused,
// nothing is written.
//
// # Safety
// The pointers point to as much as is said, also those in the trees.
enum DraftpickStatus draftpick_verify_trees(const char *verifier,
                                            const struct DraftpickTree *trees,
                                            size_t count,
                                            int32_t *tokens,
                                            size_t room,
                                            size_t *lengths,
                                            int32_t *nodes);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DRAFTPICK_H */
