"""Weighted k-NN on cached features."""

from __future__ import annotations

from eval import knn
from eval.protocols.knn import KnnProtocol
from repro.stages import features
from repro.stages.context import JobContext, Outcome


def run(context: JobContext) -> Outcome:
    """Judge the features of the parent job."""
    return features.judge(context, knn.evaluate, KnnProtocol)
