"""Gradients of several ranks, averaged while the backward pass still runs.

Parameters lie in buckets, the last one first, since that is where backward begins. A bucket whose gradients are all
there is sent at once; what is left of the sending when backward ends is waited for. All are sent, in their order, at
every update, so that no rank waits for another one in vain, whichever parameters have a gradient; where one has none,
its bucket and those behind it wait for the end of backward. Which parameter lies where depends on the parameters alone,
so that a training goes on bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import nn

from repro.stages.distributed import Group

BUCKET = 2**20  # elements at least, but for the last bucket: enough that a message's latency does not count
_ALIGNED = 32  # elements between which a parameter's gradient may begin


class Exchange:
    """Means over the ranks of the gradients of one update after the other: `begin`, backward, `finish`.

    One rank alone has no buckets, and its gradients are left alone.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], group: Group) -> None:
        """parameters: on their device and in their memory format, and the same ones in all ranks."""
        wanted = [parameter for parameter in parameters if parameter.requires_grad] if group.size > 1 else []
        self._buckets = [_Bucket(part, group) for part in _parts(wanted[::-1])]
        self._open = False  # between `begin` and `finish`
        self._sent = 0  # buckets of this update
        for bucket in self._buckets:
            for place, parameter in enumerate(bucket.parameters):
                parameter.register_post_accumulate_grad_hook(lambda _, b=bucket, i=place: self._arrived(b, i))

    def begin(self) -> None:
        """From here on a gradient that backward leaves is whole: before the last of the micro-batches' passes."""
        self._open, self._sent = True, 0

    def finish(self) -> None:
        """Make every gradient the mean over the ranks; in one that has none, zero counts. In none, it stays None."""
        self._open = False
        for bucket in self._buckets[self._sent :]:
            bucket.send()
        for bucket in self._buckets:
            bucket.receive()

    def _arrived(self, bucket: _Bucket, place: int) -> None:
        if not self._open:
            return
        bucket.take(place)
        while self._sent < len(self._buckets) and self._buckets[self._sent].full:
            self._buckets[self._sent].send()
            self._sent += 1


class _Bucket:
    """Gradients that are sent together, in one flat tensor of their type; behind them a flag each for whether it is."""

    def __init__(self, parameters: Sequence[nn.Parameter], group: Group) -> None:
        self.parameters, self._group = parameters, group
        starts, end = [], 0
        for parameter in parameters:
            starts.append(end)
            end += -(-parameter.numel() // _ALIGNED) * _ALIGNED
        self._flat = torch.zeros(end + len(parameters), dtype=parameters[0].dtype, device=parameters[0].device)
        self._views = [
            self._flat.as_strided(parameter.shape, parameter.stride(), start)
            for parameter, start in zip(parameters, starts, strict=True)
        ]
        self._flags = self._flat[end:]
        self._here = [False] * len(parameters)
        self._work: dist.Work | None = None

    @property
    def full(self) -> bool:
        return all(self._here)

    def take(self, place: int) -> None:
        """Copy that parameter's gradient, which is whole, and free its memory."""
        parameter = self.parameters[place]
        assert parameter.grad is not None
        torch.div(parameter.grad, self._group.size, out=self._views[place])
        parameter.grad, self._here[place] = None, True

    def send(self) -> None:
        """Begin to sum the gradients over the ranks."""
        for place, parameter in enumerate(self.parameters):
            if not self._here[place] and parameter.grad is not None:  # of an earlier micro-batch alone
                self.take(place)
        for view, here in zip(self._views, self._here, strict=True):
            if not here:
                view.zero_()
        if self.full:
            self._flags.fill_(1)
        else:
            self._flags.copy_(torch.tensor(self._here))
        self._work = dist.all_reduce(self._flat, group=self._group.gradients, async_op=True)

    def receive(self) -> None:
        """Wait for the sums, and give each parameter that has a gradient in any rank its own."""
        assert self._work
        self._work.wait()
        # Only where one is missing here does the host have to wait for the device, to know of the others.
        anywhere: Sequence[float | bool] = self._here if self.full else self._flags.tolist()
        for parameter, view, has in zip(self.parameters, self._views, anywhere, strict=True):
            parameter.grad = view if has else None
        self._here = [False] * len(self.parameters)


def _parts(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Split into runs of one type of at least BUCKET elements, but for what is left at an end."""
    part: list[nn.Parameter] = []
    for parameter in parameters:
        if part and parameter.dtype != part[0].dtype:
            yield part
            part = []
        part.append(parameter)
        if sum(one.numel() for one in part) >= BUCKET:
            yield part
            part = []
    if part:
        yield part
