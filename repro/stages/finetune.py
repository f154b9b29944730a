"""Fine-tuning: the encoder and a linear head, everything trained."""

from __future__ import annotations

from eval import finetune, protocols
from repro.stages.common import (
    Outcome,
    Task,
    device,
    labelled_pictures,
    load_encoder,
    outcome_of,
    protocol_of,
    source_of,
    with_side,
)
from repro.store import checkpoints


def run(task: Task) -> Outcome:
    """Fine-tune the encoder of the parent job on the labelled pictures."""
    trained = load_encoder(task.workspace.encoder(task.parents[0]))
    train, train_y = labelled_pictures(task, "train")
    test, test_y = labelled_pictures(task, "test")
    result = finetune.evaluate(
        trained.encoder,
        train.pixels,
        train_y,
        test.pixels,
        test_y,
        len(train.classes),
        trained.mean,
        trained.std,
        with_side(protocol_of(task, protocols.FinetuneProtocol), task),
        device=device(),
        progress=task.progress,
        store=checkpoints.Store(task.folder),
    )
    outcome = outcome_of(result, source_of(train))
    outcome.scratch = ("*.pt*",)
    return outcome
