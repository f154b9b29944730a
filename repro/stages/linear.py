"""Linear classifiers: on cached features, or on new crops of the pictures in every epoch."""

from __future__ import annotations

from eval import linear, protocols
from repro.stages import features
from repro.stages.context import JobContext, Outcome, device, source_of, with_side
from repro.stages.pictures import labelled_pictures
from repro.store import checkpoints


def run(context: JobContext) -> Outcome:
    """Judge the features of the parent job, or with crops its encoder."""
    protocol = context.protocol(protocols.LinearProtocol)
    if not protocol.augmented:
        return features.judge(context, linear.evaluate, protocols.LinearProtocol)
    protocol = with_side(protocol, context)
    trained = context.encoder()
    train, train_y = labelled_pictures(context, "train")
    test, test_y = labelled_pictures(context, "test")
    result = linear.probe(
        trained.encoder,
        train.pixels,
        train_y,
        test.pixels,
        test_y,
        len(train.classes),
        trained.mean,
        trained.std,
        protocol,
        device=device(),
        progress=context.progress,
        store=checkpoints.Store(context.folder),
    )
    outcome = Outcome.of(result, source_of(train))
    outcome.details["size"] = list(protocol.size)
    held = outcome.details["n_split"]
    turns = len(train_y) + (len(train_y) - held if held else 0)
    outcome.cost["image_passes"] = protocol.epochs * turns + held + len(test_y)
    return outcome
