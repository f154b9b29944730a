"""The folder a user works in, and where everything in it lies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from repro.errors import UserError
from repro.store.hashes import file_digest


@dataclass(frozen=True)
class Workspace:
    """repro-work/
    records/    one JSON file a finished job
    boards/     Markdown made from them
    jobs/       one folder a job: checkpoints, caches, pictures, its training log
    processes/  one log a task, and what the executors keep
    code/       the code of each submission, one folder a version
    data/       decoded and generated pictures
    calibration.json   what `plan --calibrate` measured here
    """

    root: Path

    @classmethod
    def existing(cls, root: Path) -> Workspace:
        """For whatever only reads: the workspace that is there. UserError where it is not; nothing is made."""
        if not root.is_dir():
            raise UserError(f"no workspace {root}; run creates it, or give another with --workspace")
        return cls(root)

    @property
    def on_disk(self) -> Path:
        """The folder, absolute, or where it is not made yet the nearest one above it that is there."""
        place = self.root.resolve()
        return next(path for path in (place, *place.parents) if path.exists())

    @property
    def records(self) -> Path:
        return self.root / "records"

    @property
    def boards(self) -> Path:
        return self.root / "boards"

    @property
    def processes(self) -> Path:
        return self.root / "processes"

    @property
    def code(self) -> Path:
        return self.root / "code"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def calibration(self) -> Path:
        return self.root / "calibration.json"

    def job(self, fingerprint: str) -> Path:
        """The folder of one job."""
        return self.root / "jobs" / fingerprint[:16]

    def features_are_whole(self, fingerprint: str) -> bool:
        """Whether the features that a job extracted are there, and of the encoder that is there."""
        try:
            seen = json.loads((self.job(fingerprint) / "meta.json").read_text(encoding="utf-8"))["checkpoint"]
            encoder = self.encoder(seen["job"])
            return not encoder.is_file() or file_digest(encoder) == seen["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def encoder(self, fingerprint: str) -> Path:
        """The encoder that the pre-training or import of that fingerprint leaves."""
        return self.job(fingerprint) / "encoder.pt"
