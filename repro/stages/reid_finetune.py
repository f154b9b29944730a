"""Re-identification with the encoder fine-tuned on the training identities."""

from __future__ import annotations

from eval import protocols, reid_finetune
from repro.data.types import ReidSplit
from repro.stages.common import Outcome, Task, device, load_encoder, outcome_of, protocol_of, reid_pictures, source_of
from repro.store import checkpoints


def run(task: Task) -> Outcome:
    """Fine-tune the encoder of the parent job on the training identities, and rank the gallery."""
    trained = load_encoder(task.workspace.encoder(task.parents[0]))
    protocol = protocol_of(task, protocols.ReidFinetuneProtocol)
    pictures = reid_pictures(task, protocol)

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
        progress=task.progress,
        work_dir=task.folder,
        store=checkpoints.Store(task.folder),
    )
    outcome = outcome_of(result, source_of(pictures))
    outcome.scratch = ("*.pt*",)
    return outcome
