"""Weighted k-NN on cached features."""

from __future__ import annotations

from eval import knn, protocols
from repro.stages import features
from repro.stages.context import JobContext, Outcome


def run(context: JobContext) -> Outcome:
    """Judge the features of the parent job."""
    return features.judge(context, knn.evaluate, protocols.KnnProtocol)
