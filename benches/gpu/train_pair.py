"""Trains a pair of models large enough to time on a GPU, within minutes, from the text that lies on the machine.

    python benches/gpu/train_pair.py --out /tmp/pair

A byte-level BPE tokenizer, a deep target model and a shallow draft model of the Llama architecture, in the Hugging Face
layout: OUT/target and OUT/draft, each with config.json, model.safetensors (bf16) and tokenizer.json; and
OUT/prompts.txt, the beginnings of lines that neither model was trained on. The text is Python's standard library and
the packages beside it, and what lies under /usr/share/doc. The draft model learns from the target's probabilities, the
target from the text; both stop by the clock, so that two runs do not give the same weights.

Needs torch, tokenizers and safetensors. Without a GPU: for a trial, with small sizes.
"""

import argparse
import hashlib
import json
import math
import site
import sys
import sysconfig
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn

END = "<|end|>"
ROPE_THETA = 10_000.0
EPS = 1e-6


class Norm(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))

    def forward(self, x):
        scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + EPS)
        return (x * scale).to(x.dtype) * self.weight.to(x.dtype)


class Attention(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.heads = heads
        for name in ["q_proj", "k_proj", "v_proj", "o_proj"]:
            setattr(self, name, nn.Linear(hidden, hidden, bias=False))

    def forward(self, x, cos, sin):
        batch, length, hidden = x.shape
        split = lambda y: y.view(batch, length, self.heads, hidden // self.heads).transpose(1, 2)
        half = hidden // self.heads // 2
        turn = lambda y: (y * cos + torch.cat((-y[..., half:], y[..., :half]), -1) * sin).to(y.dtype)
        q, k, v = turn(split(self.q_proj(x))), turn(split(self.k_proj(x))), split(self.v_proj(x))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, hidden))


class Mlp(nn.Module):
    def __init__(self, hidden, intermediate):
        super().__init__()
        self.gate_proj = nn.Linear(hidden, intermediate, bias=False)
        self.up_proj = nn.Linear(hidden, intermediate, bias=False)
        self.down_proj = nn.Linear(intermediate, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, hidden, intermediate, heads):
        super().__init__()
        self.input_layernorm = Norm(hidden)
        self.self_attn = Attention(hidden, heads)
        self.post_attention_layernorm = Norm(hidden)
        self.mlp = Mlp(hidden, intermediate)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """The names of the parameters are those of the checkpoint, after the prefix `model.`."""

    def __init__(self, vocab, hidden, intermediate, layers, heads, context):
        super().__init__()
        self.sizes = dict(vocab_size=vocab, hidden_size=hidden, intermediate_size=intermediate,
                          num_hidden_layers=layers, num_attention_heads=heads, max_position_embeddings=context)
        self.embed_tokens = nn.Embedding(vocab, hidden)
        self.layers = nn.ModuleList(Layer(hidden, intermediate, heads) for _ in range(layers))
        self.norm = Norm(hidden)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                last = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers) if last else 0.02)

    def forward(self, tokens):
        size = self.sizes["hidden_size"] // self.sizes["num_attention_heads"]
        frequencies = ROPE_THETA ** (-torch.arange(0, size, 2, device=tokens.device) / size)
        angles = torch.outer(torch.arange(tokens.shape[1], device=tokens.device), frequencies)
        x = self.embed_tokens(tokens)
        x = x.bfloat16() if torch.is_autocast_enabled(x.device.type) else x
        cos, sin = (torch.cat((f, f), -1) for f in (angles.cos(), angles.sin()))
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.linear(self.norm(x), self.embed_tokens.weight)

    def save(self, folder, tokenizer):
        folder.mkdir(parents=True, exist_ok=True)
        weights = {f"model.{name}": weight.detach().to(torch.bfloat16).contiguous().cpu()
                   for name, weight in self.named_parameters()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", attention_bias=False,
                      mlp_bias=False, rms_norm_eps=EPS, rope_theta=ROPE_THETA, tie_word_embeddings=True,
                      torch_dtype="bfloat16", bos_token_id=0, eos_token_id=0, **self.sizes,
                      num_key_value_heads=self.sizes["num_attention_heads"])
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        tokenizer.save(str(folder / "tokenizer.json"))


def texts(megabytes):
    """Files by the hash of their path, so that any number of them is a mixture; one in 64 is held out."""
    roots = {Path(sysconfig.get_path("stdlib")), Path("/usr/share/doc"), *map(Path, site.getsitepackages()),
             *(Path(path) for path in sys.path if path.endswith("site-packages"))}
    suffixes = {".py", ".pyi", ".md", ".rst", ".txt"}
    key = lambda path: hashlib.sha256(str(path).encode()).digest()
    files = sorted({path for root in roots for path in root.rglob("*") if path.suffix in suffixes}, key=key)
    train, held_out, room, seen = [], [], megabytes << 20, set()
    for path in files:
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError):
            continue
        digest = hashlib.sha256(text.encode()).digest()
        # Tables of numbers and copies teach nothing.
        if not 500 < len(text) < 200_000 or digest in seen:
            continue
        seen.add(digest)
        (held_out if key(path)[0] % 64 == 0 else train).append(text)
        room -= len(text)
        if room < 0:
            break
    return train, held_out


def learn_tokens(train, vocab):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(train[: len(train) // 8 + 1], trainer)
    return tokenizer


def encode(tokenizer, texts):
    tokens = []
    for encoding in tokenizer.encode_batch(texts):
        tokens += encoding.ids + [0]
    return torch.tensor(tokens, dtype=torch.int32)


def batches(tokens, batch, length, device):
    generator = torch.Generator().manual_seed(0)
    while True:
        starts = torch.randint(len(tokens) - length - 1, (batch,), generator=generator)
        rows = torch.stack([tokens[start : start + length + 1] for start in starts]).long()
        yield rows.pin_memory().to(device, non_blocking=True) if device == "cuda" else rows


def train(name, model, batches, seconds, rate, loss_of):
    """AdamW with a linear warm-up and a cosine decay over the seconds given; bf16 arithmetic on f32 weights."""
    device = next(model.parameters()).device.type
    matrices = [weight for weight in model.parameters() if weight.dim() == 2]
    others = [weight for weight in model.parameters() if weight.dim() != 2]
    groups = [dict(params=matrices, weight_decay=0.1), dict(params=others, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=device == "cuda")
    start, step, shown = time.monotonic(), 0, 0.0
    while (spent := time.monotonic() - start) < seconds:
        done = spent / seconds
        for group in optimizer.param_groups:
            group["lr"] = rate * min((step + 1) / 100, 0.05 + 0.95 * (0.5 + 0.5 * math.cos(math.pi * done)))
        with torch.autocast(device, torch.bfloat16):
            loss = loss_of(model, next(batches))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        # Reading the loss also keeps the clock honest: the GPU runs behind it otherwise.
        if step % 20 == 0:
            value = loss.item()
            if spent - shown > 10:
                shown = spent
                print(f"{name}: {spent:4.0f} s, step {step}, loss {value:.3f}", flush=True)
    print(f"{name}: {step} steps, loss {loss.item():.3f}, {sum(w.numel() for w in model.parameters()) / 1e6:.1f} M "
          "parameters", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Trains a target and a draft model to time speculative decoding with.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--target-seconds", type=float, default=120)
    parser.add_argument("--draft-seconds", type=float, default=45)
    parser.add_argument("--megabytes", type=int, default=120, help="of text")
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--hidden", type=int, default=640)
    parser.add_argument("--draft-layers", type=int, default=1)
    parser.add_argument("--draft-hidden", type=int, default=640)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--prompts", type=int, default=100)
    args = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    clock = time.monotonic()
    train_texts, held_out = texts(args.megabytes)
    tokenizer = learn_tokens(train_texts, args.vocab)
    tokens = encode(tokenizer, train_texts)
    print(f"{len(train_texts)} files, {len(tokens) / 1e6:.1f} M tokens, {time.monotonic() - clock:.0f} s", flush=True)

    def model(layers, hidden):
        # 8/3 of the width, rounded up to a multiple of 64; heads of 64.
        sizes = dict(intermediate=-(-hidden * 8 // 3) // 64 * 64 + 64, heads=max(hidden // 64, 1))
        return Llama(args.vocab, hidden, layers=layers, context=2048, **sizes).to(device)

    target, draft = model(args.layers, args.hidden), model(args.draft_layers, args.draft_hidden)

    def of_text(model, rows):
        return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1).float(), rows[:, 1:].flatten())

    def of_target(model, rows):
        with torch.no_grad():
            wanted = target(rows[:, :-1]).flatten(0, 1).float().softmax(-1)
        return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1).float(), wanted)

    if args.target_seconds > 0:
        data = batches(tokens, args.batch, args.length, device)
        train("target", target, data, args.target_seconds, 1e-3, of_text)
        train("draft", draft, data, args.draft_seconds, 2e-3, of_target)
    target.save(args.out / "target", tokenizer)
    draft.save(args.out / "draft", tokenizer)

    fits = lambda line: 40 <= len(line) <= 90 and line.isascii() and line[0].isalpha()
    lines = [line for text in held_out for line in text.splitlines() if fits(line)]
    step = max(len(lines) // args.prompts, 1)
    prompts = [line[: len(line) * 2 // 3].rstrip() for line in lines[::step]][: args.prompts]
    (args.out / "prompts.txt").write_text("".join(prompt + "\n" for prompt in prompts))
    print(f"{len(prompts)} prompts; {time.monotonic() - clock:.0f} s in all", flush=True)


if __name__ == "__main__":
    main()
