"""Losses that more than one method uses. Logits are float32, with autocast too.

Over several processes every function returns the mean over the local rows, with the rows of all processes as partners.
The mean of these losses over the processes is the loss of the whole batch, and averaging gradients, as DDP does, gives
its gradient: what is gathered with gradient hands every process the sum of all processes' gradients for its rows.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def world() -> int:
    """Processes that train together, 1 outside a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def first_row(rows: int) -> int:
    """Place of this process's first row in a gathered batch, `rows` on each process."""
    return dist.get_rank() * rows if world() > 1 else 0


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes in rank order, [B_all, ...], with gradient to every process; `rows` itself for one."""
    return torch.cat(all_gather(rows.contiguous())) if world() > 1 else rows


def gather_keys(keys: Tensor) -> Tensor:
    """The keys of all processes in rank order, [B_all, ...], without gradient; `keys` itself for one."""
    keys = keys.detach()
    if world() == 1:
        return keys
    everyone = [torch.empty_like(keys) for _ in range(world())]
    dist.all_gather(everyone, keys.contiguous())
    return torch.cat(everyone)


def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """-(1/B) sum_i log( exp(<q_i, k_i> / T) / sum_j exp(<q_i, k_j> / T) ), rows normalised, keys stopped.

    queries, keys: [B, D] of the same local rows; the keys of all processes (equal B each) serve as negatives.
    About ln(B_all) for unrelated directions.
    """
    queries = F.normalize(queries.float(), dim=1)
    keys = gather_keys(F.normalize(keys.float(), dim=1))
    first = first_row(len(queries))
    target = torch.arange(first, first + len(queries), device=queries.device)
    with torch.autocast(queries.device.type, enabled=False):
        logits = queries @ keys.T / temperature
    return F.cross_entropy(logits, target)


def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """SimCLR's loss over the 2B embeddings of all processes, eq. 1 of arXiv:2002.05709, with gradient to all of them:

        l(a, b) = -log( exp(<a, b> / T) / sum_{c != a} exp(<a, c> / T) ),   mean over both directions of all pairs

    z1, z2: [B, D] of the same local rows, normalised here.  About ln(2 B_all - 1) for unrelated directions.
    """
    local1, local2 = F.normalize(z1.float(), dim=1), F.normalize(z2.float(), dim=1)
    all1, all2 = gather(local1), gather(local2)
    b, total, first = len(local1), len(all1), first_row(len(local1))
    with torch.autocast(z1.device.type, enabled=False):
        logits = torch.cat([local1, local2]) @ torch.cat([all1, all2]).T / temperature
    rows = torch.arange(b, device=z1.device)
    own = torch.cat([first + rows, total + first + rows])
    partner = torch.cat([total + first + rows, first + rows])
    logits = logits.scatter(1, own[:, None], float("-inf"))
    return F.cross_entropy(logits, partner)


def sup_con(z: Tensor, ids: Tensor, temperature: float, base_temperature: float) -> Tensor:
    """(T / T0) mean_j -1/|P(j)| sum_{p in P(j)} log( exp(<z_j, z_p> / T) / sum_{a != j} exp(<z_j, z_a> / T) ).

    P(j): the other rows with the id of j.  Supervised contrastive loss, L_out of arXiv:2004.11362.
    z: [N, D], normalised here, with gradient through all rows; ids: int64 [N].  Every row needs a partner.
    """
    z = F.normalize(z.float(), dim=1)
    with torch.autocast(z.device.type, enabled=False):
        logits = z @ z.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    log_p = logits - logits.masked_fill(itself, float("-inf")).logsumexp(dim=1, keepdim=True)
    positive = (ids[:, None] == ids) & ~itself
    return -(temperature / base_temperature) * (log_p * positive).sum(dim=1).div(positive.sum(dim=1)).mean()


def cosine(p: Tensor, z: Tensor) -> Tensor:
    """<p_i, sg z_i> / (|p_i| |z_i|) of every row, float32 [B].  p, z: [B, D]."""
    return F.cosine_similarity(p.float(), z.detach().float(), dim=1)
