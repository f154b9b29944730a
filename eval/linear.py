"""Linear classification of features that were extracted once: a grid of softmax heads, and ridge on few labels.

`linear_heads` trains the heads, `linear_grid` chooses among them, `ridge` is the low-shot probe. `linear_crops` judges
an encoder by the same grid, but on new crops of the pictures in every update.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from eval.context import PLAIN, Context
from eval.data import Classification, Features
from eval.features import check_finite, to_device
from eval.linear_grid import judge
from eval.protocols.linear import LinearProtocol
from eval.ridge import low_shot


def evaluate(data: Classification[Features], protocol: LinearProtocol, context: Context = PLAIN) -> dict[str, Any]:
    """Linear and low-shot accuracy of features.

    Metrics in percent: top1 (and top5 above five classes) after the last epoch, with the rate and decay that were best
    on the split after theirs; top1_selected, of the rate, decay and epoch that were best there; top1_best_on_test, over
    the whole grid and all epochs; optimism = best_on_test - top1; top1_10_per_class, top1_1pct and their like.
    ValueError for features or labels that cannot be judged.
    """
    data.check("features")
    for part in (data.train, data.test):
        check_finite(part.x)
    train_y, test_y, classes = data.train.y, data.test.y, data.classes
    scaled = normalised(data.train.x, data.test.x, protocol.normalise)
    train, test = (to_device(x, context.device) for x in scaled)

    def feed(rows: npt.NDArray[np.int64], *_: int) -> Tensor:
        return train[to_device(rows, context.device)]

    result = judge(feed, feed, train_y, test, test_y, classes, protocol, context.progress)
    few = low_shot(train, train_y, test, to_device(test_y, context.device), classes, protocol)
    for name, runs in few.items():
        if not isinstance(runs, str):
            result["metrics"][f"top1_{name}"] = float(np.mean([run["top1"] for run in runs]))
    result["details"]["low_shot"] = few
    return result


def normalised(
    train: npt.NDArray[np.float32], test: npt.NDArray[np.float32], how: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Both sets; "l2": of unit length; "standardise": by mean and deviation of the training columns; "none": as is.

    A column without variance becomes 0.
    """
    if how == "none":
        return train, test
    if how == "l2":
        return tuple(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (train, test))
    mean = train.mean(axis=0, dtype=np.float64)
    std = train.std(axis=0, dtype=np.float64)
    flat = std <= 1e-6 * np.maximum(np.abs(mean), 1e-30)  # what rounding alone leaves of a constant column
    scale = np.where(flat, 0, 1 / np.where(flat, 1, std))
    return tuple(((x - mean) * scale).astype(np.float32) for x in (train, test))
