"""A recipe fitted to fewer pictures than it is for: as many updates of batches that the pictures can fill.

A track's recipes are for its own data set. A folder of some hundred pictures would give them a few updates, or none. So
the batch is halved until an epoch has two of them, and the epochs grow until the updates are those of the recipe. Hence
the time stays below that of the recipe on its own data set. What counts epochs (the warm-up) and what holds past
pictures (banks, queues) goes along. What `--set` states stays as stated. A fitted recipe is a recipe: it has its own
fingerprint, and the record has its values.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from repro.errors import UserError
from repro.store.job import Recipe

BATCHES = 2  # an epoch, at least
SMALLEST = 8  # pictures a batch is not halved below
_LENGTHS = ("batch", "epochs", "warmup_epochs")
_BANKS = ("bank_size", "queue_bank_size")  # rows of past pictures


@dataclass(frozen=True)
class Change:
    """One value of a recipe that was fitted."""

    key: str
    before: int
    after: int


@dataclass(frozen=True)
class Fitted:
    """A recipe, and what was changed of it to fit it to the pictures: nothing where they are enough."""

    recipe: Recipe
    pictures: int
    usual: int
    changes: tuple[Change, ...] = ()


def fitted(name: str, recipe: Recipe, pictures: int, usual: int, stated: Mapping[str, Mapping[str, Any]]) -> Fitted:
    """The recipe for so many training pictures.

    Args:
        name: of the arm, for messages.
        recipe: as resolved; it stays as it is.
        pictures: those that there are.
        usual: those that the recipe is for.
        stated: what `--set` says, by table: these values are kept.

    Raises:
        UserError: the pictures do not fill the batches.
    """
    new = copy.deepcopy(recipe)
    then, now = recipe["pretrain"], new["pretrain"]
    kept = stated.get("pretrain", {})
    if not then["epochs"] or pictures >= usual:
        return Fitted(recipe, pictures, usual)
    if "batch" not in kept:
        now["batch"] = _batch(then, pictures)
    least = now["batch"] * (1 if "batch" in kept else BATCHES)
    if least > pictures:
        give = "set data.limit to" if stated.get("data", {}).get("limit") == pictures else "give"
        raise UserError(
            f"{name}: {pictures} training images are too few; batches have {now['batch']} images",
            f"{give} {least} or more, take smaller batches with --set pretrain.batch=N, or leave {name} out (--method"
            " random random:pixels trains nothing)",
        )
    loads = pictures // now["batch"]
    if "epochs" not in kept:
        now["epochs"] = max(1, usual // then["batch"] * then["epochs"] // loads)
        if "warmup_epochs" not in kept:
            now["warmup_epochs"] = round(then["warmup_epochs"] * now["epochs"] / then["epochs"])
    banks = {key: recipe["method"][key] for key in _BANKS if recipe["method"].get(key)}
    for key in banks.keys() - stated.get("method", {}).keys():
        new["method"][key] = min(banks[key], max(now["batch"], banks[key] * pictures // usual))
    changes = [Change(key, then[key], now[key]) for key in _LENGTHS if now[key] != then[key]]
    changes += [Change(key, rows, new["method"][key]) for key, rows in banks.items() if new["method"][key] != rows]
    return Fitted(new, pictures, usual, tuple(changes))


def _batch(pretrain: Mapping[str, Any], pictures: int) -> int:
    """The batch of a recipe, halved until the pictures fill several or no half of it is left to take."""
    batch, parts = int(pretrain["batch"]), pretrain["devices"] * pretrain["accumulate"]
    while pictures < BATCHES * batch and batch % (2 * parts) == 0 and batch // 2 >= SMALLEST:
        batch //= 2
    return batch


def words(found: Mapping[str, Fitted]) -> list[str]:
    """A line for all arms, by name, whose recipes are fitted alike.

    `simclr: 160 training pictures, where the recipe is for 5,000: batch 128 -> 64, epochs 4 -> 78, so that ...`
    """
    alike: dict[str, list[str]] = {}
    for name, item in found.items():
        if item.changes:
            values = ", ".join(f"{change.key} {change.before} -> {change.after}" for change in item.changes)
            line = f"{item.pictures:,} training images, where the recipe is for {item.usual:,}: {values}"
            if any(change.key == "epochs" for change in item.changes):
                line += ", so that the number of updates stays near the recipe's"
            alike.setdefault(line, []).append(name)
    return [f"{', '.join(names)}: {line}" for line, names in alike.items()]
