"""Fine-tuning: the encoder and a linear head, everything trained."""

from __future__ import annotations

from eval import finetune, protocols
from repro.stages.common import (
    Outcome,
    Task,
    classification,
    context_of,
    load_encoder,
    outcome_of,
    protocol_of,
    with_side,
)


def run(task: Task) -> Outcome:
    """Fine-tune the encoder of the parent job on the labelled pictures."""
    trained = load_encoder(task.workspace.encoder(task.parents[0]))
    data, source = classification(task)
    protocol = with_side(protocol_of(task, protocols.FinetuneProtocol), task)
    result = finetune.evaluate(trained.encoder, data, trained.normalisation, protocol, context_of(task))
    outcome = outcome_of(result, source)
    outcome.scratch = ("*.pt*",)
    return outcome
