"""Re-identification with the encoder fine-tuned on the training identities."""

from __future__ import annotations

from eval import reid_finetune
from eval.protocols.reid_finetune import ReidFinetuneProtocol
from repro.stages.context import JobContext, Outcome, source_of
from repro.stages.pictures import identified, reid_pictures


def prepare(context: JobContext) -> int:
    """Decode the pictures, which is done once, before the job is timed; it counts its own steps."""
    reid_pictures(context, context.protocol(ReidFinetuneProtocol))
    return 0


def run(context: JobContext) -> Outcome:
    """Fine-tune the encoder of the parent job on the training identities, and rank the gallery."""
    trained = context.encoder()
    protocol = context.protocol(ReidFinetuneProtocol)
    pictures = reid_pictures(context, protocol)
    result = reid_finetune.evaluate(
        trained.encoder,
        identified(pictures.train),
        identified(pictures.query),
        identified(pictures.gallery),
        trained.normalisation,
        protocol,
        context.evaluation(),
    )
    return Outcome.of(result, source_of(pictures))
