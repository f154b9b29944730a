"""What can change the number of a k-NN evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from eval.protocols.base import Counts, Features, Positive, Share, Whole, require


@dataclass(frozen=True, kw_only=True)
class KnnProtocol(Features):
    """Weighted cosine k-NN; k is chosen on a class-balanced split of the training pictures."""

    kind: ClassVar[str] = "knn"
    # those above the number of training pictures are left out
    ks: Annotated[Counts, Meta(min_length=1)] = (1, 5, 10, 20, 50, 100, 200)
    temperature: Positive = 0.07  # weight of a neighbour: exp(cosine / temperature)
    holdout: Share = 0.2  # share of the training pictures on which k is chosen
    seed: Whole = 0  # of that split

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(set(self.ks)) == len(self.ks), self, "ks", "distinct")

    @classmethod
    def required(cls, stated: Mapping[str, Any]) -> tuple[str, ...]:
        return ("top1_nearest",)
