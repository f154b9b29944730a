"""What can change the number of a re-identification for which the encoder is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from msgspec import Meta

from eval.protocols.base import Count, NotNegative, Positive, Probability, Schedule, Whole, require_milestones
from eval.protocols.reid import ReidProtocol


@dataclass(frozen=True, kw_only=True)
class ReidFinetuneProtocol(ReidProtocol):
    """Encoder, BNNeck and classifier of identities, everything trained; then the ranking. See reid_finetune.py."""

    kind: ClassVar[str] = "reid_finetune"
    identities: Annotated[int, Meta(ge=2)] = 16  # of a batch
    pictures: Annotated[int, Meta(ge=2)] = 4  # of an identity in a batch
    epochs: Count = 120
    lr: Positive = 3.5e-4  # of AdamW
    weight_decay: NotNegative = 5e-4  # not on 1-D parameters, position embeddings and class token
    schedule: Schedule = "steps"
    milestones: tuple[int, ...] = (40, 70)  # of "steps", in epochs
    warmup_epochs: NotNegative = 10.0  # linear from warmup_lr
    warmup_lr: NotNegative = 3.5e-5
    crop_padding: Whole = 10  # pixels of black around the picture before the random crop
    hflip: bool = True
    erasing: Probability = 0.5  # of random erasing with normal noise
    label_smoothing: Probability = 0.1
    margin: NotNegative = 0.3  # of the triplet loss
    seed: Whole = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_milestones(self)
