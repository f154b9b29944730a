"""An encoder that was trained elsewhere: checked, and left as the `encoder.pt` that every evaluation reads."""

from __future__ import annotations

from repro.errors import UserError
from repro.stages.context import JobContext, Outcome, source_of
from repro.stages.pictures import classification_pictures
from repro.store import encoder_file
from repro.store.hashes import file_digest
from repro.weights import files, fitting


def run(context: JobContext) -> Outcome:
    """Put the weights of a file under our keys; UserError where they are not wholly those of the network."""
    spec = context.spec
    wanted, network = spec["checkpoint"], spec["network"]
    assert context.job.source is not None
    file = files.read(context.job.source)
    if file_digest(context.job.source) != wanted["sha256"]:
        raise UserError(f"{file.name}: the file was changed after this job was planned; run the command again")
    found = fitting.find(file, network, context.job.method, wanted["part"])
    mean, std, data = spec["mean"], spec["std"], {}
    if spec["normalise"] == "data":
        pictures = classification_pictures(context, "train")
        mean, std, data = list(pictures.mean), list(pictures.std), source_of(pictures)
    target = context.workspace.encoder(context.job.fingerprint)
    encoder_file.save(target, context.job, network, mean, std, found.weights)
    return Outcome(
        metrics={},
        details={
            "role": "imported",
            "file": file.name,
            "recipe": {"network": network, "checkpoint": wanted},
            "normalise": spec["normalise"],
            "mean": mean,
            "std": std,
            "encoder_parameters": sum(value.numel() for value in found.weights.values()),
            **found.sheet(),
        },
        artifacts={"encoder": "encoder.pt"},
        data=data,
    )
