"""Tokens for each call of the target model, and tokens a second: paths against transformers' own assisted generation.

    python python/benches/generate.py [--prompts 20] [--tokens 32] [--threads 1]

The tiny pair, float32, temperature 1, on the prompts that come with it. Assisted generation drafts `L` tokens in every round
(constant schedule, no confidence threshold), as the paths do. Every forward call of the target is counted by a hook, whoever makes
it. The ways take turns prompt by prompt.
"""

import argparse
import pathlib
import time

import numpy as np
import torch
import transformers
from draftpick.transformers import generate

PAIR = pathlib.Path(__file__).parents[2] / "assets" / "tiny-pair"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-K", type=int, default=4)
    parser.add_argument("-L", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    load = transformers.AutoModelForCausalLM.from_pretrained
    target, draft = (load(PAIR / name, dtype=torch.float32).eval() for name in ("target", "draft"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(PAIR / "tokenizer.json"))
    draft.generation_config.update(
        num_assistant_tokens=args.L, num_assistant_tokens_schedule="constant", assistant_confidence_threshold=0.0
    )
    prompts = [tokenizer(t, return_tensors="pt") for t in (PAIR / "prompts.txt").read_text().splitlines()[: args.prompts]]
    calls = 0

    def count(*_):
        nonlocal calls
        calls += 1

    target.register_forward_hook(count)
    limits = dict(max_new_tokens=args.tokens, min_new_tokens=args.tokens, do_sample=True, top_k=0, pad_token_id=0)

    def ours(K, verifier, tree=True):
        def run(ids, seed):
            out = generate(
                target, draft, ids, K, args.L, verifier,
                seeds=seed, max_new_tokens=args.tokens, eos_token_id=(), tokenizers=None, tree=tree,
            )  # fmt: skip
            return len(out.new_tokens[0])

        return run

    def theirs(**keywords):
        def run(ids, seed):
            torch.manual_seed(seed)
            return target.generate(**ids, **limits, **keywords).shape[1] - ids["input_ids"].shape[1]

        return run

    ways = {
        "plain (transformers)": theirs(),
        f"assisted, L = {args.L}": theirs(assistant_model=draft),
        f"token:maximal, K = 1, L = {args.L}": ours(1, "token:maximal"),
        f"block, K = 1, L = {args.L}": ours(1, "block"),
        f"path, K = {args.K}, L = {args.L}": ours(args.K, "path"),
        f"path, K = {args.K}, L = {args.L}, rows": ours(args.K, "path", tree=False),
    }
    found = {name: [] for name in ways}
    for number, ids in enumerate(prompts):
        for name, run in ways.items():
            calls, start = 0, time.perf_counter()
            tokens = run(ids, number)
            found[name].append((tokens, calls, time.perf_counter() - start))
    print(f"{len(prompts)} prompts of {args.tokens} tokens, transformers {transformers.__version__}, torch {torch.__version__}")
    assisted = per_call(found[f"assisted, L = {args.L}"])
    for name, rows in found.items():
        tokens, target_calls, spent = np.array(rows).T
        ratio = per_call(rows) / assisted
        error = ratio.std(ddof=1) / len(ratio) ** 0.5 if len(ratio) > 1 else float("nan")
        print(
            f"{name:28} {tokens.sum() / target_calls.sum():6.2f} tokens a call   {np.median(tokens / spent):7.1f} tokens a second   "
            f"{ratio.mean():5.2f} ± {error:.2f} x assisted's tokens a call"
        )


def per_call(rows):
    """By prompt."""
    tokens, calls, _ = np.array(rows).T
    return tokens / calls


if __name__ == "__main__":
    main()
