"""A GPU where there is none: data are real on the host and fake on the device.

Within `pretend()` an operation on CPU tensors alone runs as ever. What touches a tensor of device `cuda`, or asks for
that device, runs on torch's fake tensors, which have a shape, a type and a device and no data. So it costs little, and
a program shows what only a GPU would show:

* `MixedDevices`: an operation meets tensors of the host and of the device.
* `HiddenWait`: the program needs a value that the device has yet to compute (`.item()`, `.cpu()`, a mask as index), in
  a place that `PLACES` does not name. A named place gets a made-up value: noise, 0 for whole numbers, and True.
* `sent`: every copy from host to device, its size, and whether it lay in pinned memory, without which it waits, too.

What a pool of threads is given to do runs at once, in the thread that gives it. What is made up, and so is not tested:
`Tensor.backward` gives every parameter that the loss reaches a gradient without data, and does not run the backward
operations; SGD is not fused; streams, events and the device's own generator do nothing.

`pretend(values=True)` is a device that computes, on the host: for libraries whose shapes depend on values, as those of
detectors do. Its tensors say that they lie on `cuda` and hold their values; nothing is made up but the gradients.

REPRO_GPU=real in the environment runs the same tests on a real GPU, where nothing is made up and nothing counted.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

ROOT = Path(__file__).resolve().parents[1]

PLACES = {
    "repro/stages/pretrain.py:PretrainLoop._look": "the losses, every 20 updates",
    "repro/store/checkpoints.py:save.<locals>.<lambda>": "a checkpoint",
    "repro/store/encoder_file.py:save": "the encoder, at the end of its training",
    "eval/training.py:identity": "a hash of the weights, before a training",
    "eval/features.py:extract": "the features of a batch, at its end",
    "eval/knn.py:true_ranks": "the ranks of a chunk of queries",
    "eval/linear_heads.py:ranks": "the ranks of all test images, once an epoch",
    "eval/ridge.py:ridge": "the errors of all strengths, once a probe",
    "eval/finetune.py:evaluate": "the sum of the losses, once an epoch",
    "eval/finetune.py:evaluate.<locals>.ranks_of": "the ranks of a batch of test images",
    "eval/reid_finetune.py:evaluate": "the sums of the losses, once an epoch",
    "eval/reid.py:_similarities": "the similarities of a block of the gallery",
    "eval/rerank.py:distances": "the distances of a chunk of images",
    "eval/rerank.py:_nearest": "the neighbours of a chunk of images",
    "eval/rerank.py:_pairs": "the distances of a chunk of pairs",
    "eval/detectors.py:build": "mmengine's means of the weights of a new detector",
    "eval/detectors.py:_same_maps": "whether a new detector sees the encoder's own maps, before a training",
    "eval/detection_training.py:Detector.train": "the loss, every 10 updates; mmdet's assigners and samplers",
    "eval/detection_training.py:Detector._renew_statistics": "mmdet's assigners and samplers",
    "eval/detection_training.py:Detector.judge": "mmdet's choice among the detections of an image",
    "eval/mmcv_ops.py:nms": "mmdet's choice among the detections of an image",
    "eval/mmcv_ops.py:batched_nms": "mmdet's choice among the detections of an image",
    "eval/detection_metrics.py:coco_results": "the detections of an image",
}
"""Where a stage may wait for its device, by file and function, and for what."""

_aten: Any = torch.ops.aten
_ASKS = (
    _aten._local_scalar_dense.default,
    _aten.equal.default,
    _aten.nonzero.default,
    _aten.masked_select.default,
    _aten._unique2.default,
    _aten.unique_dim.default,
)
_SENDS = (_aten._to_copy.default, _aten.copy_.default)


class MixedDevices(AssertionError):
    """An operation met tensors of the host and of the device."""


class HiddenWait(AssertionError):
    """The program waited for the device in a place that is not named."""


@dataclass(frozen=True)
class Sent:
    """One copy from host to device, from `place` (file:function); pinned: it does not wait."""

    bytes: int
    pinned: bool
    place: str


class Gpu:
    """The device that a test runs on, and what a pretend one has seen since `forget()`."""

    def __init__(self, real: bool) -> None:
        self.real, self.device = real, torch.device("cuda")
        self.sent: list[Sent] = []
        self.waits: Counter[str] = Counter()
        """How often the program waited, by place."""

    def forget(self) -> None:
        """Begin to count anew."""
        self.sent.clear()
        self.waits.clear()

    def check_sent(self, most: int) -> None:
        """AssertionError where more than `most` copies were sent, or one from pageable memory."""
        told = "\n".join(str(one) for one in self.sent)
        assert len(self.sent) <= most, f"{len(self.sent)} copies to the device, at most {most}:\n{told}"
        assert all(one.pinned for one in self.sent), f"copies from pageable memory wait for the device:\n{told}"

    def check_waits(self) -> None:
        """AssertionError where the program waited, be it in a named place."""
        assert not self.waits, f"waited for the device: {dict(self.waits)}"


def _place() -> str:
    """file:function of the innermost line that is the program's or a test's own."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_filename != __file__ and Path(code.co_filename).is_relative_to(ROOT):
            name = re.sub(r"\.<locals>\.<(genexpr|\w+comp)>", "", code.co_qualname)  # 3.12 has none of comprehensions
            return f"{Path(code.co_filename).relative_to(ROOT)}:{name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "nowhere:"


class Valued(Tensor):
    """A tensor of the device that has values after all: `values`, on the host. Its operations are `_Split`'s."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> Valued:
        made: Valued = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device="cuda:0",
        )
        made.values = values
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied: Tensor = Valued(self.values.clone())
        memo[id(self)] = copied = nn.Parameter(copied, self.requires_grad) if isinstance(self, nn.Parameter) else copied
        return copied

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on the pretend device, outside of it")


class _Split(TorchDispatchMode):
    """Sends every operation to the host or to the pretend device, see the module's docstring."""

    def __init__(self, gpu: Gpu, values: bool = False) -> None:
        super().__init__()
        self.gpu, self.values = gpu, values
        self.noise = torch.Generator().manual_seed(0)
        self._pinned: dict[int, Tensor] = {}  # by address, and kept, so that no other tensor gets the address

    def pin(self, tensor: Tensor) -> Tensor:
        self._pinned[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def is_pinned(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._pinned

    def wait(self, what: Any) -> None:
        place = _place()
        self.gpu.waits[place] += 1
        if place not in PLACES:
            raise HiddenWait(f"{place} waits for the device ({what})")

    def made_up(self, like: Tensor) -> Tensor:
        """A real tensor on the host of that shape and type, with the values of the other where it has some."""
        if isinstance(like, Valued):
            return like.values.clone()
        with unset_fake_temporarily():
            if like.dtype.is_floating_point:
                return torch.rand(like.shape, generator=self.noise).to(like.dtype)
            return torch.full(like.shape, like.dtype == torch.bool, dtype=like.dtype)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        fakes = [x for x in tensors if isinstance(x, FakeTensor | Valued)]
        asked = kwargs.get("device")
        if not fakes and (asked is None or torch.device(asked).type != "cuda"):
            pinned = kwargs.pop("pin_memory", None)
            with unset_fake_temporarily():
                out = func(*args, **kwargs)
            return self.pin(out) if pinned else out
        if func is torch.ops.prim.device.default:
            return self.gpu.device if self.values else func(*args)
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:  # in inference mode the parts that an operation is made of have yet to be called
                return func.decompose(*args, **kwargs)
        host = [x for x in tensors if not isinstance(x, FakeTensor | Valued)]
        if func is _aten.copy_.default and not isinstance(args[0], FakeTensor | Valued):
            self.wait(func)
            values = self.made_up(args[1])
            with unset_fake_temporarily():
                return args[0].copy_(values)
        if func in _SENDS and host:
            told = kwargs.get("non_blocking") or (len(args) > 2 and args[2])
            pinned = bool(told) and self.is_pinned(host[0])
            self.gpu.sent.append(Sent(host[0].nbytes, pinned, _place()))
        elif any(x.ndim for x in host):
            raise MixedDevices(f"{func} in {_place()} meets tensors of the host and of the device")
        if self.values:
            return self._with_values(func, args, kwargs, bool(fakes))
        try:
            out = func(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException):
            self.wait(func)
            if func is _aten._local_scalar_dense.default:
                value = self.made_up(fakes[0])
                with unset_fake_temporarily():
                    return value.item()
            raise HiddenWait(f"{_place()}: the shape of what {func} returns depends on values of the device") from None
        if any(isinstance(x, FakeTensor) and x.device.type == "cpu" for x in tree_leaves(out)):
            self.wait(func)
            return tree_map(lambda x: self.made_up(x) if isinstance(x, FakeTensor) else x, out)
        return out

    def _with_values(self, func: Any, args: Any, kwargs: Any, touches: bool) -> Any:
        """The operation on the values, its results on the device again, unless it brings them to the host.

        touches: whether the device has any of its arguments.
        """
        known: dict[int, Tensor] = {}

        def here(x: Any) -> Any:
            if isinstance(x, Valued):
                known[id(x.values)] = x
                return x.values
            return torch.device("cpu") if isinstance(x, torch.device) else x

        def there(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            return known[id(x)] if id(x) in known else Valued(x)

        asked = kwargs.get("device")
        to_host = touches and asked is not None and torch.device(asked).type == "cpu"
        indices = args[1] if func in (_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default) else ()
        if (
            func in _ASKS
            or (func is _aten._to_copy.default and to_host)
            or any(x is not None and x.dtype == torch.bool for x in indices)
        ):
            self.wait(func)
        args, kwargs = tree_map(here, (args, kwargs))
        # A view of a tensor from before inference mode cannot be a tensor of inference mode.
        with unset_fake_temporarily(), torch.inference_mode(False), torch.no_grad():
            out = func(*args, **kwargs)
            return out if to_host else tree_map(there, out)


def _moved(module: nn.Module, fn: Any, recurse: bool = True) -> nn.Module:
    """nn.Module._apply with new parameters in place of the old ones: fake tensors cannot be swapped."""
    for child in module.children():
        _moved(child, fn)
    for name, value in module._parameters.items():
        if value is not None:
            with torch.no_grad():
                new = fn(value)
            if new is not value:
                module._parameters[name] = nn.Parameter(new, value.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = fn(buffer)
    return module


def _backward(loss: Tensor, *_: Any, **__: Any) -> None:
    """A gradient without data for all leaves that the loss reaches."""
    assert loss.grad_fn is not None, "the loss depends on no parameter"
    seen, left = {loss.grad_fn}, [loss.grad_fn]
    while left:
        node: Any = left.pop()
        if hasattr(node, "variable") and node.variable.grad is None:
            node.variable.grad = torch.zeros_like(node.variable)
        new = {after for after, _ in node.next_functions if after is not None} - seen
        seen |= new
        left += new


class _Nothing:
    """A stream or an event of the pretend device."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def _at_once(_: Any, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    """ThreadPoolExecutor.submit without a thread: the modes that make the pretend device are of one thread."""
    future: Future[Any] = Future()
    try:
        future.set_result(task(*args, **kwargs))
    except Exception as error:
        future.set_exception(error)
    return future


@contextlib.contextmanager
def pretend(values: bool = False) -> Iterator[Gpu]:
    """The pretend GPU, for all that runs in this thread; with `values`, see the module's docstring."""
    gpu = Gpu(real=False)
    split = _Split(gpu, values)
    save, load, backward, sgd = torch.save, torch.load, Tensor.backward, torch.optim.SGD

    def really(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with _disable_current_modes():
                return function(*args, **kwargs)

        return call

    def to_host(value: Any) -> Any:
        return value.cpu() if isinstance(value, FakeTensor | Valued) else value

    stands_for = {
        torch.cuda: {
            "is_available": lambda: True,
            "is_bf16_supported": lambda *_, **__: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "get_device_name": lambda *_: "pretend GPU",
            "mem_get_info": lambda *_: (80 * 10**9, 80 * 10**9),
            "max_memory_allocated": lambda *_: 0,
            "synchronize": lambda *_: None,
            "manual_seed_all": lambda *_: None,
            "get_rng_state": lambda *_: torch.zeros(16, dtype=torch.uint8),
            "set_rng_state": lambda *_: None,
            "Stream": _Nothing,
            "Event": _Nothing,
            "current_stream": _Nothing,
            "stream": lambda *_: contextlib.nullcontext(),
        },
        torch: {
            "save": lambda state, file, **more: save(tree_map(to_host, state), file, **more),
            "load": really(load),
        },
        Tensor: {
            "pin_memory": lambda tensor, *_: split.pin(tensor.clone()),
            "is_pinned": lambda tensor, *_: split.is_pinned(tensor),
            "record_stream": lambda *_: None,
            "backward": lambda x, *a, **k: (_backward if isinstance(x, FakeTensor | Valued) else backward)(x, *a, **k),
        },
        nn.Module: {"_apply": _moved},
        torch.optim: {"SGD": lambda *groups, fused=None, **more: sgd(*groups, **more)},
        ThreadPoolExecutor: {"submit": _at_once},
        FakeTensor: {"tolist": lambda x: x.cpu().tolist()},  # one copy, as on a device
        FakeTensorMode: {"avoid_device_init": True},
    }
    cudnn = torch.backends.cudnn.flags(enabled=not values)  # the host has none of its operations
    with pytest.MonkeyPatch.context() as patch, cudnn, FakeTensorMode(allow_non_fake_inputs=True), split:
        for owner, names in stands_for.items():
            for name, value in names.items():
                patch.setattr(owner, name, value)
        yield gpu


@contextlib.contextmanager
def chosen(values: bool = False) -> Iterator[Gpu]:
    """The real GPU where REPRO_GPU=real asks for it (a test skips without one), else the pretend one."""
    if os.environ.get("REPRO_GPU") != "real":
        with pretend(values) as gpu:
            yield gpu
    elif torch.cuda.is_available():
        yield Gpu(real=True)
    else:
        pytest.skip("REPRO_GPU=real, and there is no GPU")
