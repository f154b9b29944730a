"""How much work a job is: what its time is in proportion to, and a first guess where nothing was measured.

The amount of a plan's job and that of a recorded one are the same number for the same work, so that seconds that were
measured can be scaled (repro.plan.prices).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from repro.plan import cards, footprint
from repro.plan.cards import Card
from repro.plan.tracks import Track
from repro.store.job import Recipe


@dataclass(frozen=True)
class Load:
    """What a planned job works on.

    values: of its protocol.  usual: of the track's own protocol, which the constants are for.  pictures: training
    pictures; tests: test pictures, 0 where unknown.  relative_cost: of the method, see its recipe.
    extraction: seconds for the features of all pictures, guessed.  card: that the estimate is for, on a track of GPUs.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    usual: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=dict)
    pictures: int = 0
    tests: int = 0
    relative_cost: float = 0.0
    extraction: float = 0.0
    ranks: int = 1
    card: Card | None = None


Guess = Callable[[float, Load, Track], float]
"""(the kind's constant on the track, the load, the track) -> seconds."""


def _constant(seconds: float, load: Load, track: Track) -> float:
    return seconds


@dataclass(frozen=True)
class Work:
    """planned, recorded: the amount, 0 where the time is not in proportion to anything.  guess: seconds, estimated."""

    planned: Callable[[Load], float] = lambda load: 0.0
    recorded: Callable[[Mapping[str, Any]], float] = lambda record: 0.0
    guess: Guess = _constant

    def seconds(self, constant: float, load: Load, track: Track, card: Card | None) -> float:
        """Seconds on that card (None: on the CPUs that the constants are for), where nothing was measured."""
        if card is None:
            return self.guess(constant, load, track)
        slower = max(1.0, cards.find(track.card).rate("bf16") / card.rate("bf16"))
        return self.guess(
            constant * slower, dataclasses.replace(load, card=card, extraction=load.extraction * slower), track
        )


def _protocol(record: Mapping[str, Any]) -> Mapping[str, Any]:
    values: Mapping[str, Any] = record["protocol"]["values"]
    return values


def _passes(record: Mapping[str, Any]) -> float:
    return float(record["cost"].get("image_passes", 0))


# ------------------------------------------------------------------------------------------------------------- training


def _trained_on(load: Load) -> float:
    pretrain = load.recipe["pretrain"]
    return float(load.pictures // pretrain["batch"] * pretrain["batch"] * pretrain["epochs"])


def _guess_pretraining(seconds: float, load: Load, track: Track) -> float:
    pretrain = load.recipe["pretrain"]
    passes = load.pictures * pretrain["epochs"] * load.relative_cost
    if not passes:
        return 10.0
    rate = load.card.rate(pretrain["precision"]) if load.card else 1e9 * track.gflops
    return 10 + passes * footprint.training_flops(load.recipe, track.size) / (rate * load.ranks)


def _finetuned_on(load: Load, values: Mapping[str, Any]) -> float:
    return float(values["epochs"] * (values["train_pictures"] or load.pictures * values["train_share"]))


def _recorded_finetuning(record: Mapping[str, Any]) -> float:
    values = _protocol(record)
    return float(values["epochs"] * record["details"]["n_train"] / (1 - values["holdout"]))


def _guess_finetuning(seconds: float, load: Load, track: Track) -> float:
    return seconds * _finetuned_on(load, load.values) / _finetuned_on(load, load.usual)


# ----------------------------------------------------------------------------------------------------------- evaluation


def _guess_linear(seconds: float, load: Load, track: Track) -> float:
    """On crops an epoch takes what the features of all pictures take, in proportion to the pixels."""
    values = load.values
    if not values["crop_scale"]:
        return seconds
    pixels = math.prod(values["size"] or (track.size,) * 2) / (track.stored or track.size) ** 2
    passes = values["epochs"] * (2 - values["holdout"] if values["holdout"] else 1)
    return load.extraction * passes * pixels


def _epochs_of(values: Mapping[str, Any], pictures: float) -> float:
    return float(pictures * values.get("epochs", 1))


def detector_pictures(values: Mapping[str, Any]) -> float:
    """Training pictures that a detector and its check on a few see, those of forward passes alone counted a third."""
    return float(values["batch"] * (values["iterations"] + values["overfit_iterations"] + values["precise_norm"] // 3))


def _guess_detection(seconds: float, load: Load, track: Track) -> float:
    """The constant, which is for the track's own protocol and a convolutional network, times the pixels trained on.

    A ViT of N tokens and D channels spends 24 N D^2 operations a block on its layers and 4 N^2 D on attention.
    """

    def pixels(values: Mapping[str, Any]) -> float:
        return detector_pictures(values) * values["short_side"] * values["long_side"]

    seconds = seconds * pixels(load.values) / pixels(load.usual)
    if load.network["arch"] != "vit":
        return seconds
    tokens = load.values["short_side"] * load.values["long_side"] / load.network["patch"] ** 2
    return seconds * (1 + tokens / (6 * load.network["dim"]))


def _guess_by_epochs(seconds: float, load: Load, track: Track) -> float:
    return seconds * float(load.values["epochs"]) / float(load.usual["epochs"])


FIXED = Work()
PRETRAINING = Work(_trained_on, _passes, _guess_pretraining)
FEATURES = Work(lambda load: float(load.pictures + load.tests) if load.tests else 0.0, _passes)
CLASSIFICATION = Work(
    lambda load: _epochs_of(load.values, load.pictures),
    lambda record: _epochs_of(_protocol(record), record["details"]["n_train"]),
)
LINEAR = Work(CLASSIFICATION.planned, CLASSIFICATION.recorded, _guess_linear)
FINETUNING = Work(lambda load: _finetuned_on(load, load.values), _recorded_finetuning, _guess_finetuning)
DETECTION = Work(
    lambda load: detector_pictures(load.values), lambda record: detector_pictures(_protocol(record)), _guess_detection
)
EPOCHS = Work(
    lambda load: float(load.values["epochs"]), lambda record: float(_protocol(record)["epochs"]), _guess_by_epochs
)
