"""BatchNorm over the batches of all processes, on any device: torch's SyncBatchNorm refuses the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

from methods.parts.losses import world


@contextlib.contextmanager
def statistics_kept(*modules: nn.Module) -> Iterator[None]:
    """Within, BatchNorms in training mode keep their running statistics, and normalise by the batch."""
    norms = [m for module in modules for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


class SyncBatchNorm(_BatchNorm):
    """BatchNorm1d / 2d whose training statistics are those of all processes' rows (equal numbers of rows on each).

    In float32 and differentiable through the statistics.  x: [B, C] or [B, C, H, W].
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (2, 4):
            raise ValueError(f"expected [B, C] or [B, C, H, W], got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world() == 1:
            return super().forward(input)
        over = (0, *range(2, input.dim()))
        shape = (1, -1, *[1] * (input.dim() - 2))
        x = input.float()
        n = x.numel() // x.shape[1] * world()
        mean = all_reduce(x.sum(dim=over), dist.ReduceOp.SUM) / n
        centred = x - mean.view(shape)
        var = all_reduce(centred.square().sum(dim=over), dist.ReduceOp.SUM) / n
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                assert self.num_batches_tracked is not None
                self.num_batches_tracked.add_(1)
                momentum = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(var * n / (n - 1), momentum)
        y = centred * (var + self.eps).rsqrt().view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(input.dtype)


def synchronised(module: nn.Module) -> nn.Module:
    """`module` with every BatchNorm1d / 2d replaced by one over all processes; weights and buffers are kept."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            new = SyncBatchNorm(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
            new.load_state_dict(child.state_dict())
            for old, fresh in zip(child.parameters(), new.parameters(), strict=True):
                fresh.requires_grad_(old.requires_grad)
            setattr(module, name, new.train(child.training))
        else:
            synchronised(child)
    return module
