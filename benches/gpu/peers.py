"""Other programs' kernels for one draft a position, called as their own code calls them.

`load(DIR)` looks in a directory for what was taken out of their packages (nothing of it is part of this repository):

- `vllm_rejection_sampler.py`: `vllm/v1/sample/rejection_sampler.py` of the vLLM wheel; its two Triton kernels are used.
- `sglang_reject_sampling.py`: `sglang/kernels/ops/speculative/reject_sampling.py` of the SGLang wheel; its Triton kernel, by
  tokens and by blocks.
- `libflashinfer_chain.so`: built from `flashinfer_chain.cu` beside this file and the headers of the flashinfer-python
  wheel.

All take probabilities. A figure named after the program holds the two softmaxes that make them, one with `kernels` in
its name does not.
"""

import ast
import ctypes
import importlib.util
import pathlib

import torch


def load(directory):
    directory, found = pathlib.Path(directory), []
    if (path := directory / "vllm_rejection_sampler.py").exists():
        vllm = triton_kernels(path, ["rejection_random_sample_kernel", "sample_recovered_tokens_kernel"])
        found += [("vllm", lambda *call: vllm_chain(vllm, True, *call)), ("vllm-kernels", lambda *call: vllm_chain(vllm, False, *call))]
    if (path := directory / "sglang_reject_sampling.py").exists():
        sglang = loaded(path, "sglang_reject_sampling")
        for name, blocks in (("sglang", False), ("sglang-block", True)):
            found += [(name, lambda *call, b=blocks: sglang_chain(sglang, b, True, *call)),
                      (f"{name}-kernel", lambda *call, b=blocks: sglang_chain(sglang, b, False, *call))]
    if (path := directory / "libflashinfer_chain.so").exists():
        library = ctypes.CDLL(str(path))
        found += [("flashinfer", lambda *call: flashinfer_chain(library, True, *call)),
                  ("flashinfer-kernel", lambda *call: flashinfer_chain(library, False, *call))]
    return found


def triton_kernels(path, names):
    """The kernels of a file without the imports of the program around them."""
    text = path.read_text()
    parts = [ast.get_source_segment(text, node) for node in ast.parse(text).body if getattr(node, "name", "") in names]
    decorated = []
    for part in parts:
        name = part.split("def ", 1)[1].split("(", 1)[0]
        greedy = '(do_not_specialize=["max_spec_len"])' if name == "rejection_random_sample_kernel" else ""
        decorated.append(f"@triton.jit{greedy}\n{part}\n")
    module = path.with_name("vllm_kernels.py")
    module.write_text("import triton\nimport triton.language as tl\n\n\n" + "\n\n".join(decorated))
    return loaded(module, "vllm_kernels")


def loaded(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def probabilities(inputs):
    return torch.softmax(inputs.draft.float(), -1), torch.softmax(inputs.target.float(), -1)


def made_once(all_inputs, softmaxes):
    """The probabilities of each set of inputs, or None where the call makes them."""
    if softmaxes:
        return {}
    return {id(inputs): probabilities(inputs) for inputs in all_inputs}


def too_large(all_inputs, softmaxes):
    size = 8 * sum(inputs.draft.numel() for inputs in all_inputs)
    return not softmaxes and size > 30 << 30


def vllm_chain(kernels, softmaxes, all_inputs, pairs, positions, vocab, dtype):
    if too_large(all_inputs, softmaxes):
        return None
    batch = pairs // positions
    ends = torch.arange(positions, pairs + 1, positions, device="cuda", dtype=torch.int32)
    bonus = torch.zeros(batch, device="cuda", dtype=torch.int32)
    greedy = torch.zeros(batch, device="cuda", dtype=torch.bool)
    ready = made_once(all_inputs, softmaxes)

    def call(inputs):
        p, q = ready.get(id(inputs)) or probabilities(inputs)
        drafts = inputs.tokens[:, 0].contiguous()
        inverse = torch.empty((batch, vocab), device="cuda").exponential_().reciprocal()
        recovered = torch.empty_like(drafts)
        kernels.sample_recovered_tokens_kernel[(batch, positions)](
            recovered, ends, drafts, p, q, inverse, vocab, BLOCK_SIZE=8192, NO_DRAFT_PROBS=False, USE_FP64_GUMBEL=False)
        output = torch.full((batch, positions + 1), -1, device="cuda", dtype=torch.int32)
        uniform = torch.rand(pairs, device="cuda")
        kernels.rejection_random_sample_kernel[(batch,)](
            output, ends, drafts, p, q, bonus, recovered, uniform, greedy, positions, vocab, None,
            NO_DRAFT_PROBS=False, SYNTHETIC_MODE=False, num_warps=1)
        return output

    return call


def flashinfer_chain(library, softmaxes, all_inputs, pairs, positions, vocab, dtype):
    # It takes one more target position than drafts: the first `positions - 1` drafts of each request here.
    if too_large(all_inputs, softmaxes) or positions < 2:
        return None
    batch = pairs // positions
    output = torch.empty((batch, positions), device="cuda", dtype=torch.int32)
    accepted = torch.zeros(batch, device="cuda", dtype=torch.int32)
    emitted = torch.zeros(batch, device="cuda", dtype=torch.int32)

    def split(inputs):
        drafts = inputs.draft.unflatten(0, (batch, positions))[:, :-1].float()
        return torch.softmax(drafts, -1), torch.softmax(inputs.target.float(), -1)

    ready = {} if softmaxes else {id(inputs): split(inputs) for inputs in all_inputs}

    def call(inputs):
        p, q = ready.get(id(inputs)) or split(inputs)
        drafts = inputs.tokens[:, 0].view(batch, positions)[:, :-1].contiguous()
        addresses = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (p, drafts, q, output, accepted, emitted)]
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        if library.flashinfer_chain(*addresses, batch, positions - 1, vocab, stream):
            raise RuntimeError("flashinfer")
        return output

    return call


def sglang_chain(module, blocks, softmaxes, all_inputs, pairs, positions, vocab, dtype):
    # As FlashInfer's: one draft fewer than target positions.
    if too_large(all_inputs, softmaxes) or positions < 2:
        return None
    batch = pairs // positions
    places = torch.arange(pairs, device="cuda").view(batch, positions)
    predicts = torch.zeros(pairs, device="cuda", dtype=torch.int32)
    index = torch.full((batch, positions), -1, device="cuda", dtype=torch.int32)
    accepted = torch.zeros(batch, device="cuda", dtype=torch.int32)

    def split(inputs):
        drafts = inputs.draft.unflatten(0, (batch, positions))[:, :-1].float()
        return torch.softmax(drafts, -1), torch.softmax(inputs.target.float(), -1).view(batch, positions, vocab)

    ready = {} if softmaxes else {id(inputs): split(inputs) for inputs in all_inputs}

    def call(inputs):
        p, q = ready.get(id(inputs)) or split(inputs)
        drafts = inputs.tokens[:, 0].long().view(batch, positions).roll(1, 1)
        coins = torch.rand((batch, positions), device="cuda")
        module.chain_speculative_sampling_triton(
            predicts, index, accepted, drafts, places, None, None, coins, coins[:, -1].contiguous(), q, p, 1.0, 1.0, True,
            block_verification=blocks)
        return predicts

    return call
