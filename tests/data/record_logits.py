"""Records what the transformers library computes in f32, for tests/decoder.rs.

    pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0
    python tests/data/record_logits.py

Writes beside itself:
- tiny-pair.json: the embedded pair on three prompts; at a few positions the log-sum-exp, the 50 largest logits and some
  others;
- variants/: random checkpoints, each with something that the pair does not have, and variants.json with all their
  logits.
"""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PreTrainedTokenizerFast, Qwen2Config

HERE = Path(__file__).parent
PAIR = HERE.parent.parent / "assets" / "tiny-pair"
PROMPTS = [
    "Returns the number of elements in the vector, also referred to as its 'length'.",
    "let mut iter = a.iter().map(|x| x * 2);\nassert_eq!(iter.next(), Some(2));",
    "naïve café — 日本語: a thread may block until the channel has room for a message, unless it is closed.",
]
TOP = 50
FIXED = [0, 1, 7, 100, 255, 256, 999, 2048, 4095]


def logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float()


def record_pair():
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(PAIR / "tokenizer.json"))
    records = []
    for prompt in PROMPTS:
        tokens = tokenizer.encode(prompt)
        record = {"prompt": prompt, "tokens": tokens}
        for name in ["draft", "target"]:
            model = AutoModelForCausalLM.from_pretrained(PAIR / name, dtype=torch.float32, attn_implementation="eager")
            rows = logits(model.eval(), tokens)
            record[name] = []
            for position in [0, 1, len(tokens) // 2, len(tokens) - 1]:
                row = rows[position]
                some = sorted(set(row.topk(TOP).indices.tolist() + FIXED))
                record[name].append({
                    "position": position,
                    "log_sum_exp": round(row.double().logsumexp(0).item(), 6),
                    "tokens": some,
                    "logits": [round(row[token].item(), 6) for token in some],
                })
        records.append(record)
    (HERE / "tiny-pair.json").write_text(json.dumps(records, separators=(",", ":"), ensure_ascii=False) + "\n")


SMALL = dict(
    vocab_size=48, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, initializer_range=0.4, eos_token_id=[2, 5],
)
LLAMA3 = dict(
    rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
VARIANTS = {
    # Grouped queries, an untied head, two files, f32.
    "grouped-sharded": (LlamaConfig(**SMALL, head_dim=8), torch.float32),
    "llama3-bf16": (LlamaConfig(**SMALL, head_dim=8, rope_parameters=LLAMA3), torch.bfloat16),
    "linear-f16-tied": (
        LlamaConfig(
            **SMALL, tie_word_embeddings=True,
            rope_parameters=dict(rope_type="linear", rope_theta=100.0, factor=3.0),
        ),
        torch.float16,
    ),
    "biased": (LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True), torch.bfloat16),
    "mistral": (MistralConfig(**SMALL, head_dim=6, sliding_window=None), torch.bfloat16),
    "qwen2": (Qwen2Config(**SMALL), torch.bfloat16),
}
TOKENS = [(7 * i * i + 3 * i + 1) % 48 for i in range(20)]


def record_variants():
    shutil.rmtree(HERE / "variants", ignore_errors=True)
    expected = {"tokens": TOKENS}
    for seed, (name, (config, dtype)) in enumerate(VARIANTS.items()):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for parameter in model.parameters():
            # Norms and biases start as ones and zeros, which would hide their absence.
            if parameter.dim() == 1:
                torch.nn.init.normal_(parameter, 0.5, 0.3)
        path = HERE / "variants" / name
        size = "6KB" if name == "grouped-sharded" else "1GB"
        model.to(dtype).save_pretrained(path, max_shard_size=size)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
        rows = logits(model, TOKENS)
        expected[name] = [[round(x, 6) for x in row.tolist()] for row in rows[[0, 1, 9, 19]]]
    expected["positions"] = [0, 1, 9, 19]
    (HERE / "variants.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    record_pair()
    record_variants()
