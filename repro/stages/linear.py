"""Linear classifiers: on cached features, or on new crops of the pictures in every epoch."""

from __future__ import annotations

from eval import linear, linear_crops
from eval.protocols.linear import LinearProtocol
from repro.stages import features
from repro.stages.context import JobContext, Outcome, with_side
from repro.stages.pictures import classification


def run(context: JobContext) -> Outcome:
    """Judge the features of the parent job, or with crops its encoder."""
    protocol = context.protocol(LinearProtocol)
    if not protocol.augmented:
        return features.judge(context, linear.evaluate, LinearProtocol)
    protocol = with_side(protocol, context)
    trained = context.encoder()
    data, source = classification(context)
    result = linear_crops.probe(trained.encoder, data, trained.normalisation, protocol, context.evaluation())
    outcome = Outcome.of(result, source)
    outcome.details["size"] = list(protocol.size)
    held = outcome.details["n_split"]
    turns = len(data.train.y) + (len(data.train.y) - held if held else 0)
    outcome.cost["image_passes"] = protocol.epochs * turns + held + len(data.test.y)
    return outcome
