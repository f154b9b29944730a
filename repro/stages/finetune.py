"""Fine-tuning: the encoder and a linear head, everything trained."""

from __future__ import annotations

from eval import finetune, protocols
from repro.stages.context import JobContext, Outcome, device, source_of, with_side
from repro.stages.pictures import labelled_pictures
from repro.store import checkpoints


def run(context: JobContext) -> Outcome:
    """Fine-tune the encoder of the parent job on the labelled pictures."""
    trained = context.encoder()
    train, train_y = labelled_pictures(context, "train")
    test, test_y = labelled_pictures(context, "test")
    result = finetune.evaluate(
        trained.encoder,
        train.pixels,
        train_y,
        test.pixels,
        test_y,
        len(train.classes),
        trained.mean,
        trained.std,
        with_side(context.protocol(protocols.FinetuneProtocol), context),
        device=device(),
        progress=context.progress,
        store=checkpoints.Store(context.folder),
    )
    return Outcome.of(result, source_of(train))
