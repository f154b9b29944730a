"""The state of a long evaluation after an epoch: written whole or not at all, taken up by the very same run only."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from eval.features import to_tensor


def identity(
    plain: Any,
    model: nn.Module,
    images: npt.NDArray[np.uint8] | Tensor | None = None,
    labels: npt.NDArray[np.int64] | None = None,
) -> str:
    """A hash of what a run starts from.

    plain: protocol and further settings as JSON; model: its weights; images: their shape and the first 64; labels: all.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([plain, [] if images is None else list(images.shape)]).encode())
    if labels is not None:
        digest.update(labels.tobytes())
    if images is not None:
        digest.update(np.ascontiguousarray(to_tensor(images[:64]).cpu().numpy()).tobytes())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write(path: Path, run: str, state: Mapping[str, Any]) -> None:
    """Keep the state (tensors and plain values) of the run of that identity."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("wb") as stream:
        torch.save({"run": run, **state}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)


def read(path: Path | None, run: str, what: str) -> tuple[dict[str, Any] | None, str]:
    """(state to go on from, why there is none); (None, "") where there is no file. what: "fine-tuning", in messages."""
    if not path or not path.exists():
        return None, ""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a torn or planted file makes the reader raise, the answer is to start afresh
        return None, f"started afresh: {path} cannot be read ({type(error).__name__})"
    if not isinstance(state, dict) or state.get("run") != run:
        return None, f"started afresh: {path} is of another {what}"
    return state, ""
