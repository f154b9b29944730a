"""Gradients of several ranks, averaged while the backward pass still runs.

Parameters lie in buckets, the last one first, since that is where backward begins. A bucket whose gradients are all
there is sent at once; what is left of the sending when backward ends is waited for. All are sent, in their order, at
every update, whichever parameters have a gradient. Before backward the ranks agree on how many buckets will be full in
each of them; the others wait for the end of backward. So the ranks send in the same order, also among what else travels
during backward, and none waits for another one in vain. Which parameter lies where depends on the parameters alone, so
that a training goes on bit for bit.

Gradients are sent in their own type, or in half of it where that is asked for (`precision`): each rank's share of the
mean is rounded, the shares are summed in that type, and every rank gets the same sums.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from repro.stages.distributed import Group

BUCKET = 2**20  # elements at least, but for the last bucket: enough that a message's latency does not count
_ALIGNED = 32  # elements between which a parameter's gradient may begin
TYPES = {"full": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precision -> the type that gradients are sent in; None: their own."""


class Exchange:
    """Means over the ranks of the gradients of one update after the other: `begin`, backward, `finish`.

    One rank alone has no buckets, and its gradients are left alone.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], group: Group, precision: str = "full") -> None:
        """parameters: on their device and in their memory format, and the same ones in all ranks.

        precision: one of TYPES.
        """
        wanted = [parameter for parameter in parameters if parameter.requires_grad] if group.size > 1 else []
        self._group = group
        self._buckets = [_Bucket(part, group, TYPES[precision]) for part in _parts(wanted[::-1])]
        self._open = False  # between `begin` and `finish`
        self._sent = self._early = 0  # buckets of this update that were sent, and that backward may send
        for bucket in self._buckets:
            for place, parameter in enumerate(bucket.parameters):
                parameter.register_post_accumulate_grad_hook(lambda _, b=bucket, i=place: self._arrived(b, i))

    def begin(self, loss: Tensor) -> None:
        """From here on a gradient that backward leaves is whole; loss: of the last micro-batch, before its backward."""
        if not self._buckets:
            return
        self._open, self._sent = True, 0
        reached = _reached(loss)
        full = (all(id(parameter) in reached for parameter in bucket.parameters) for bucket in self._buckets)
        early = torch.tensor(sum(1 for _ in itertools.takewhile(bool, full)))
        dist.all_reduce(early, op=dist.ReduceOp.MIN, group=self._group.host)
        self._early = int(early)

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
        while self._sent < self._early and self._buckets[self._sent].full:
            self._buckets[self._sent].send()
            self._sent += 1


class _Bucket:
    """Gradients that are sent together, in one flat tensor; behind them a flag each for whether there is one."""

    def __init__(self, parameters: Sequence[nn.Parameter], group: Group, sent_in: torch.dtype | None) -> None:
        self.parameters, self._group = parameters, group
        starts, end = [], 0
        for parameter in parameters:
            starts.append(end)
            end += -(-parameter.numel() // _ALIGNED) * _ALIGNED
        sent_in = sent_in or parameters[0].dtype
        self._flat = torch.zeros(end + len(parameters), dtype=sent_in, device=parameters[0].device)
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
            parameter.grad = view.to(parameter.dtype) if has else None
        self._here = [False] * len(self.parameters)


def _reached(loss: Tensor) -> set[int]:
    """The ids of the parameters that the loss depends on."""
    begin = loss.grad_fn
    found, seen, left = set[int](), {begin}, [begin]
    while left:
        node = left.pop()
        if node is None:
            continue
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        new = {after for after, _ in node.next_functions} - seen
        seen |= new
        left += new
    return found


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
