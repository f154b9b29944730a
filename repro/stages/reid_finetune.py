"""Re-identification with the encoder fine-tuned on the training identities."""

from __future__ import annotations

from eval import protocols, reid_finetune
from repro.data.types import ReidSplit
from repro.stages.context import JobContext, Outcome, device, source_of
from repro.stages.pictures import reid_pictures
from repro.store import checkpoints


def prepare(context: JobContext) -> int:
    """Decode the pictures, which is done once, before the job is timed; it counts its own steps."""
    reid_pictures(context, context.protocol(protocols.ReidFinetuneProtocol))
    return 0


def run(context: JobContext) -> Outcome:
    """Fine-tune the encoder of the parent job on the training identities, and rank the gallery."""
    trained = context.encoder()
    protocol = context.protocol(protocols.ReidFinetuneProtocol)
    pictures = reid_pictures(context, protocol)

    def split(found: ReidSplit) -> reid_finetune.Split:
        return reid_finetune.Split(found.pixels, found.pids, found.cams)

    result = reid_finetune.evaluate(
        trained.encoder,
        split(pictures.train),
        split(pictures.query),
        split(pictures.gallery),
        trained.mean,
        trained.std,
        protocol,
        device=device(),
        progress=context.progress,
        work_dir=context.folder,
        store=checkpoints.Store(context.folder),
    )
    return Outcome.of(result, source_of(pictures))
