"""An encoder that was trained elsewhere: checked, and left as the `encoder.pt` that every evaluation reads."""

from __future__ import annotations

from repro.data import catalogue
from repro.errors import UserError
from repro.stages.common import Outcome, Task, save_encoder, source_of
from repro.store import fingerprint
from repro.weights import weights


def run(task: Task) -> Outcome:
    """Put the weights of a file under our keys; UserError where they are not wholly those of the network."""
    spec = task.spec
    wanted, network = spec["checkpoint"], spec["network"]
    assert task.source is not None
    file = weights.read(task.source)
    if fingerprint.file_digest(task.source) != wanted["sha256"]:
        raise UserError(f"{file.name}: the file was changed after this job was planned; give the command again")
    found = weights.find(file, network, task.method, wanted["part"])
    mean, std, data = spec["mean"], spec["std"], {}
    if spec["normalise"] == "data":
        role = spec["data"]
        pictures = catalogue.load_classification(
            role["name"], "train", task.where, size=spec["stored"] or spec["size"], limit=role["limit"] or None
        )
        mean, std, data = list(pictures.mean), list(pictures.std), source_of(pictures)
    save_encoder(task, network, mean, std, found.weights)
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
            **weights.sheet(found),
        },
        artifacts={"encoder": "encoder.pt"},
        data=data,
    )
