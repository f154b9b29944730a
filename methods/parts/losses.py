"""Losses that more than one method uses. Logits are float32 whatever the autocast."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def gather_keys(keys: Tensor) -> Tensor:
    """The keys of all processes in rank order, [B_all, D], without gradient; `keys` itself outside a process group."""
    keys = keys.detach()
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return keys
    everyone = [torch.empty_like(keys) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, keys.contiguous())
    return torch.cat(everyone)


def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """-(1/B) sum_i log( exp(<q_i, k_i> / T) / sum_j exp(<q_i, k_j> / T) ), rows normalised, keys stopped.

    queries, keys: [B, D] of the same local rows; the keys of all processes (equal B each) serve as negatives.
    About ln(B_all) for unrelated directions.
    """
    queries = F.normalize(queries.float(), dim=1)
    keys = gather_keys(F.normalize(keys.float(), dim=1))
    first = dist.get_rank() * len(queries) if len(keys) > len(queries) else 0
    target = torch.arange(first, first + len(queries), device=queries.device)
    with torch.autocast(queries.device.type, enabled=False):
        logits = queries @ keys.T / temperature
    return F.cross_entropy(logits, target)
