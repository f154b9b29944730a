"""What can change the number of a re-identification with frozen features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from eval.protocols.base import Count, Features, Probability, Statistics, collapse_metrics


@dataclass(frozen=True, kw_only=True)
class ReidProtocol(Features):
    """Ranking of a gallery for each query, in the manner of Market-1501."""

    kind: ClassVar[str] = "reid"
    metric: Literal["cosine", "euclidean"] = "cosine"
    # a query without a right answer: left out and counted, or scored 0 (SYSU-30k)
    no_match: Literal["exclude", "zero"] = "exclude"
    normalise: Statistics = "data"
    rerank: bool = False  # k-reciprocal re-ranking, see rerank.py
    rerank_k1: Count = 20  # neighbours that must be mutual
    rerank_k2: Count = 6  # over so many nearest is averaged, the picture itself included; 1 = not
    rerank_lambda: Probability = 0.3  # weight of the original distance

    @classmethod
    def required(cls, stated: Mapping[str, Any]) -> tuple[str, ...]:
        return collapse_metrics("query", "gallery")
