"""The grid of learning rates and weight decays: trained twice, chosen on a training split, judged on the test pictures.

It is trained on the fit part of the training pictures, to choose rate and decay on the held-out part, then on all of
them, where the choice is read off after the last epoch (`top1`). An epoch chosen on the split as well is recorded
(`top1_selected`) but not the result: a moment of luck in one training is none in the next, which cost up to five points
on weak features. What an author who looks at the test set would report stands beside it (`top1_best_on_test`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from eval import linear_heads
from eval.context import Progress, part_of
from eval.features import to_device
from eval.linear_heads import Feed, Heads
from eval.protocols.linear import LinearProtocol
from eval.scores import pack, percent, standard_error
from eval.splits import holdout
from eval.training import Checkpoint, Training


def judge(
    feed: Feed,
    plain: Callable[[npt.NDArray[np.int64]], Tensor],
    train_y: npt.NDArray[np.int64],
    test: Tensor,
    test_y: npt.NDArray[np.int64],
    classes: int,
    protocol: LinearProtocol,
    progress: Progress,
    checkpoint: Checkpoint | None = None,
) -> dict[str, Any]:
    """Train the grid and judge it.

    feed: features to train on; plain: those of whole training pictures, asked for the held-out ones; test: float32
    [N, D]; y: int64 [N]. progress is told of updates, of both trainings together.
    """
    labels, test_labels = (to_device(np.array(y), test.device) for y in (train_y, test_y))
    grid = [(rate, decay) for rate in protocol.learning_rates for decay in protocol.weight_decays]
    fit, held = np.arange(len(train_y)), np.arange(0)
    if protocol.holdout:
        fit, held = holdout(train_y, protocol.holdout, protocol.seed)
    rounds = (len(fit) if len(held) else 0, len(labels))
    work = [protocol.epochs * linear_heads.updates_of(n, protocol) for n in rounds if n]

    def train(
        part: str, rows: npt.NDArray[np.int64], x: Tensor, y: Tensor
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """(accuracies [epochs, H], ranks [N, H] after the last) on x, y of heads trained on those rows."""
        heads = Heads(test.shape[1], classes, grid, protocol, test.device)
        training = Training(
            {"heads": heads},
            protocol.epochs,
            linear_heads.updates_of(len(rows), protocol),
            checkpoint=checkpoint,
            name=part,
            progress=part_of(progress, sum(work[:-1]) if part == "all" else 0, sum(work)),
        )
        turns = linear_heads.train(
            lambda chosen, *clock: feed(rows[chosen], *clock),
            labels[to_device(rows, test.device)],
            classes,
            grid,
            protocol,
            heads=heads,
            training=training,
        )
        with training:
            for weight, bias in turns:
                training.history.append((100 * (linear_heads.ranks(x, y, weight, bias) == 0).mean(axis=0)).tolist())
        return np.array(training.history), linear_heads.ranks(x, y, *heads.result())

    chosen = selected = 0
    selected_epoch = protocol.epochs - 1
    on_split = np.full((protocol.epochs, len(grid)), np.nan)
    if len(held):
        on_split, _ = train("split", fit, plain(held), labels[to_device(held, test.device)])
        chosen = int(on_split[-1].argmax())  # of equals the first of the grid
        backwards, selected = divmod(int(on_split[::-1].argmax()), len(grid))  # of equals the longest training
        selected_epoch = protocol.epochs - 1 - backwards
    on_test, all_ranks = train("all", np.arange(len(labels)), test, test_labels)
    ranks = all_ranks[:, chosen]

    top1 = percent(ranks == 0)
    rate, decay = grid[chosen]
    metrics = {"top1": top1, "top1_best_on_test": float(on_test.max()), "optimism": float(on_test.max()) - top1}
    details: dict[str, Any] = {
        "learning_rate": rate,
        "weight_decay": decay,
        "grid": [list(pair) for pair in grid],
        "test_top1_last_epoch": on_test[-1].round(3).tolist(),
        "best_on_test_epoch": int(on_test.max(axis=1).argmax()) + 1,
        "n_train": len(labels),
        "n_split": len(held),
        "n_test": len(test),
        "standard_error": standard_error(top1, len(test)),
        "correct": pack(ranks == 0),
    }
    if len(held):
        metrics["top1_selected"] = float(on_test[selected_epoch, selected])
        details["selected"] = [*grid[selected], selected_epoch + 1]
        details["rate_at_edge"] = rate in (min(protocol.learning_rates), max(protocol.learning_rates))
        details["split_top1_last_epoch"] = on_split[-1].round(3).tolist()
    if classes > 5:
        metrics["top5"] = percent(ranks < 5)
    return {"metrics": metrics, "artifacts": {}, "details": details}
