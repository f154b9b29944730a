"""Re-identification with the encoder fine-tuned on the training identities."""

from __future__ import annotations

from eval import protocols, reid_finetune
from repro.stages.common import (
    Outcome,
    Task,
    context_of,
    identified,
    load_encoder,
    outcome_of,
    protocol_of,
    reid_pictures,
    source_of,
)


def run(task: Task) -> Outcome:
    """Fine-tune the encoder of the parent job on the training identities, and rank the gallery."""
    trained = load_encoder(task.workspace.encoder(task.parents[0]))
    protocol = protocol_of(task, protocols.ReidFinetuneProtocol)
    pictures = reid_pictures(task, protocol)
    result = reid_finetune.evaluate(
        trained.encoder,
        identified(pictures.train),
        identified(pictures.query),
        identified(pictures.gallery),
        trained.normalisation,
        protocol,
        context_of(task),
    )
    outcome = outcome_of(result, source_of(pictures))
    outcome.scratch = ("*.pt*",)
    return outcome
