"""Re-identification with the frozen encoder's features."""

from __future__ import annotations

import numpy as np

from eval import reid
from eval.data import Identified
from eval.features import extract, summary
from eval.protocols.reid import ReidProtocol
from repro.data.data_sets import IMAGENET_STATISTICS
from repro.stages.context import JobContext, Outcome, device, source_of
from repro.stages.features import checkpoint_of, save_array
from repro.stages.pictures import reid_pictures
from repro.store.hashes import digest


def prepare(context: JobContext) -> int:
    """Decode the pictures, which is done once, before the job is timed; the steps that it reports before it ranks."""
    pictures = reid_pictures(context, context.protocol(ReidProtocol))
    return len(pictures.query.pixels) + len(pictures.gallery.pixels)


def run(context: JobContext) -> Outcome:
    """Rank the gallery for each query by the features of the encoder of the parent job."""
    checkpoint = checkpoint_of(context)
    trained = context.encoder()
    protocol = context.protocol(ReidProtocol)
    pictures = reid_pictures(context, protocol)
    mean, std = IMAGENET_STATISTICS if protocol.normalise == "imagenet" else (trained.mean, trained.std)
    transform = protocol.transform()
    key = digest(
        [checkpoint, pictures.manifest, transform, list(mean), list(std), list(pictures.query.pixels.shape[2:])]
    )
    found, passes = {}, 0
    for name in ("query", "gallery"):
        # Beside the encoder, so that another protocol that looks at the same pictures in the same way finds them.
        path = context.workspace.job(context.parent) / f"reid_{name}_{key[:12]}.npy"
        images = getattr(pictures, name).pixels
        if not path.exists():
            extracted = extract(
                trained.encoder, images, mean, std, **transform, device=device(), progress=context.progress
            )
            save_array(path, extracted)
            passes += len(images)
        found[name] = np.load(path, mmap_mode="r", allow_pickle=False)
    query, gallery = pictures.query, pictures.gallery
    result = reid.evaluate(
        Identified(found["query"], query.pids, query.cams),
        Identified(found["gallery"], gallery.pids, gallery.cams),
        protocol,
        context.evaluation(),
        pictures=(query.pixels, gallery.pixels),
    )
    outcome = Outcome.of(result, source_of(pictures))
    outcome.details["checkpoint"] = checkpoint["sha256"]
    for name, x in found.items():
        outcome.metrics |= {f"{name}_{key}": value for key, value in summary(x).items()}
    outcome.cost["image_passes"] = passes
    return outcome
