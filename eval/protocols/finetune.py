"""What can change the number of a fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from eval.protocols.base import (
    Count,
    Counts,
    NotNegative,
    Portion,
    Positive,
    Precision,
    Probability,
    Protocol,
    Schedule,
    ShareOrNone,
    Statistics,
    Whole,
    require,
    require_crops,
    require_milestones,
    require_size,
)


@dataclass(frozen=True, kw_only=True)
class FinetuneProtocol(Protocol):
    """Encoder and a new linear head, everything trained; see finetune.py for the order of the augmentations."""

    kind: ClassVar[str] = "finetune"
    train_pictures: Whole = 0  # class-balanced subset of the training pictures; 0 = all
    train_share: Portion = 1.0  # the same as a share of them; every class must keep a picture
    size: Counts = ()  # height and width in pixels; () = as they are, of crops the side of pre-training
    epochs: Count = 20
    batch: Count = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 1e-3  # multiplied by batch / base_batch
    head_lr: NotNegative = 0.0  # of the linear head, likewise; 0 = as the encoder's
    base_batch: Count = 256
    momentum: float = 0.9  # of sgd
    weight_decay: NotNegative = 0.05  # not on 1-D parameters, position embeddings and class token
    schedule: Schedule = "update"
    milestones: tuple[int, ...] = ()  # of "steps", in epochs
    warmup_epochs: float = 1.0  # linear from warmup_lr
    warmup_lr: float = 1e-6  # not scaled by the batch
    min_lr: float = 0.0  # end of the cosine, not scaled by the batch
    clip_grad: NotNegative = 0.0  # largest gradient norm; 0 = no clipping
    crop_padding: Whole = 4  # pixels of black around the picture before the random crop
    crop_scale: tuple[float, ...] = ()  # instead: range of a random crop's share of the area, resized to `size`
    crop_ratio: tuple[float, ...] = (3 / 4, 4 / 3)  # range of its width / height
    test_crop: Portion = 1.0  # middle of the test pictures that is seen, as a share of their shorter side
    hflip: bool = True
    randaugment: bool = False  # rand-m9-mstd0.5-inc1: two of timm's "increasing" operations a picture
    erasing: Probability = 0.0  # of random erasing with normal noise
    mixup: NotNegative = 0.0  # alpha of its Beta
    cutmix: NotNegative = 0.0  # alpha of its Beta
    mix_switch: Probability = 0.5  # of cutmix where both are on
    label_smoothing: Probability = 0.0
    normalise: Statistics = "data"
    precision: Precision = "fp32"
    channels_last: bool = False
    holdout: ShareOrNone = 0.1  # of the training pictures, to choose an epoch on; 0 = train on all, choose nothing
    reported: Literal["last", "selected"] = "last"  # which epoch is `top1`
    test_every: Whole = 0  # epochs between looks at the test pictures; 0 = only the last and the selected epoch
    seed: Whole = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size(self)
        require_crops(self)
        require_milestones(self)
        require(self.train_share == 1 or not self.train_pictures, self, "train_pictures, train_share", "not both given")
        require(not (self.crop_scale and self.crop_padding), self, "crop_scale, crop_padding", "not both given")
        require(self.holdout > 0 or self.reported == "last", self, "holdout", "above 0 to report a selected epoch")
