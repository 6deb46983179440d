"""k-SEQ (Sun et al. 2023, Algorithm 2) as one would write it with NumPy or torch: vectorised over batch and vocabulary.

Both take what an engine has, float32 logits, and give what it wants, tokens; both are held to `draftpick.select` before anything
is timed. They compute in float32, keep their buffers, and look for `rho` to 2⁻²⁰ of its range, no finer than float32 sums can tell.
"""

import numpy as np

#: Halvings of `[1, k]`.
STEPS = 20


class NumPyKSeq:
    """Over `[B, V]` logits, with buffers that are made once."""

    def __init__(self, batch, vocab):
        self.p, self.q, self.buffer = (np.empty((batch, vocab), np.float32) for _ in range(3))

    def softmax(self, logits, out):
        np.subtract(logits, logits.max(axis=1, keepdims=True), out=out)
        np.exp(out, out=out)
        out /= out.sum(axis=1, keepdims=True)

    def beta(self, rho):
        np.multiply(self.q, (1 / rho)[:, None].astype(np.float32), out=self.buffer)
        np.minimum(self.p, self.buffer, out=self.buffer)
        return self.buffer.sum(axis=1).astype(np.float64)

    def __call__(self, draft_logits, target_logits, drafts, coins):
        k, rows = drafts.shape[1], np.arange(len(drafts))
        self.softmax(draft_logits, self.p)
        self.softmax(target_logits, self.q)
        low, high = np.ones(len(drafts)), np.full(len(drafts), float(k))
        for _ in range(STEPS):
            middle = (low + high) / 2
            beta = self.beta(middle)
            valid = 1 - (1 - beta) ** k <= middle * beta
            low, high = np.where(valid, low, middle), np.where(valid, middle, high)
        rho = high
        beta = self.beta(rho)
        p, q = (law[rows[:, None], drafts] for law in (self.p, self.q))
        accepts = coins[:, :k] < np.minimum(1, q / (rho[:, None] * p))
        accepted = np.where(accepts.any(axis=1), accepts.argmax(axis=1), -1)
        tokens = drafts[rows, accepted]
        for row in np.flatnonzero(accepted < 0):
            share = np.float32((1 - (1 - beta[row]) ** k) / beta[row])
            residual = self.q[row] - np.minimum(self.p[row], self.q[row] / np.float32(rho[row])) * share
            sums = np.cumsum(np.maximum(residual, 0), dtype=np.float64)
            tokens[row] = np.searchsorted(sums, coins[row, k + 1] * sums[-1], side="right")
        return tokens, accepted


class TorchKSeq:
    """The same with torch's own softmax and its threads."""

    def __init__(self, batch, vocab):
        import torch

        self.torch = torch
        self.buffer = torch.empty(batch, vocab)

    def __call__(self, draft_logits, target_logits, drafts, coins):
        torch, k = self.torch, drafts.shape[1]
        p, q = torch.softmax(draft_logits, -1), torch.softmax(target_logits, -1)

        def beta_at(rho):
            torch.mul(q, (1 / rho)[:, None].float(), out=self.buffer)
            torch.minimum(p, self.buffer, out=self.buffer)
            return self.buffer.sum(-1).double()

        low, high = torch.ones(len(drafts), dtype=torch.float64), torch.full((len(drafts),), float(k), dtype=torch.float64)
        for _ in range(STEPS):
            middle = (low + high) / 2
            beta = beta_at(middle)
            valid = 1 - (1 - beta) ** k <= middle * beta
            low, high = torch.where(valid, low, middle), torch.where(valid, middle, high)
        rho = high
        beta = beta_at(rho)
        accepts = coins[:, :k] < (q.gather(1, drafts) / (rho[:, None] * p.gather(1, drafts))).clamp(max=1)
        accepted = torch.where(accepts.any(1), accepts.int().argmax(1), -1)
        tokens = drafts.gather(1, accepted.clamp(min=0)[:, None])[:, 0]
        for row in (accepted < 0).nonzero()[:, 0].tolist():
            share = ((1 - (1 - beta[row]) ** k) / beta[row]).float()
            residual = q[row] - torch.minimum(p[row], q[row] / rho[row].float()) * share
            sums = residual.clamp(min=0).double().cumsum(0)
            tokens[row] = torch.searchsorted(sums, coins[row, k + 1] * sums[-1], right=True)
        return tokens, accepted
