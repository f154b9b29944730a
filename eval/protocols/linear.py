"""What can change the number of a linear classification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from eval.protocols.base import (
    Count,
    Counts,
    Features,
    NotNegative,
    Portion,
    Positive,
    Positives,
    Schedule,
    Share,
    ShareOrNone,
    Whole,
    collapse_metrics,
    require,
    require_crops,
    require_milestones,
)


@dataclass(frozen=True, kw_only=True)
class LinearProtocol(Features):
    """Softmax regression on features: learning rates x weight decays, chosen on a split of the training pictures.

    With a `crop_scale` every epoch sees new crops of the training pictures through the frozen encoder, as papers do it;
    `size` is then that of the crops, () = the side at which the track pre-trains.
    """

    kind: ClassVar[str] = "linear"
    normalise: Literal["standardise", "l2", "none"] = "standardise"  # by statistics of the training features
    learning_rates: Positives = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
    base_batch: Count = 256  # a rate is multiplied by batch / base_batch
    # coupled, as in torch.optim.SGD; not on the bias
    weight_decays: Annotated[tuple[NotNegative, ...], Meta(min_length=1)] = (0.0, 1e-3)
    optimizer: Literal["sgd", "lars"] = "sgd"  # lars: see linear_heads.Heads
    trust: Positive = 0.001  # of lars
    momentum: float = 0.9
    init_std: NotNegative = 0.0  # of the heads' weights, normal; the bias starts at 0
    epochs: Count = 20
    batch: Count = 256
    schedule: Schedule = "update"  # cosine to 0
    warmup_epochs: NotNegative = 0.0  # linear, from warmup_factor of the rate
    warmup_factor: NotNegative = 0.0
    milestones: tuple[int, ...] = ()  # of "steps", in epochs
    holdout: ShareOrNone = 0.2  # of the training pictures, on which rate and decay are chosen; 0 = there is no choice
    crop_scale: tuple[float, ...] = ()  # range of a random crop's share of the area; () = cached features, no crops
    crop_ratio: tuple[float, ...] = (3 / 4, 4 / 3)  # range of its width / height
    hflip: bool = False  # half of the training crops
    test_crop: Portion = 1.0  # as of features; with crops of the training pictures, of the test pictures alone
    low_shot: Counts = (10,)  # labels a class of the low-shot probe (ridge regression to one-hot targets)
    low_shot_shares: tuple[Share, ...] = (0.01, 0.1)  # the same with a share of the training labels
    low_shot_splits: Count = 5  # fixed, disjoint where the class is large enough
    ridge: Positives = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)  # relative to the mean squared singular value
    seed: Whole = 0  # of the splits, the order of pictures, the crops and the heads

    @property
    def augmented(self) -> bool:
        """Whether training pictures are cropped anew in every epoch: no cache of features will do."""
        return bool(self.crop_scale)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_crops(self)
        require_milestones(self)
        require(self.warmup_epochs < self.epochs, self, "warmup_epochs", "fewer than the epochs")
        require(
            self.holdout > 0 or len(self.learning_rates) == len(self.weight_decays) == 1,
            self,
            "learning_rates, weight_decays",
            "one value each if holdout is 0: no images are held out to choose between several",
        )
        require(self.augmented or not self.hflip, self, "hflip", "false without crop_scale: features are cached")
        if self.augmented:
            crops = "{} if crop_scale is given: there are no features of whole training images"
            require(self.normalise == "none", self, "normalise", crops.format("'none'"))
            require(self.flip == "none", self, "flip", crops.format("'none'"))
            few = self.low_shot or self.low_shot_shares
            require(not few, self, "low_shot, low_shot_shares", crops.format("[]"))

    @classmethod
    def required(cls, stated: Mapping[str, Any]) -> tuple[str, ...]:
        """Cached features are judged by the job that made them, those of crops here."""
        return collapse_metrics("test") if stated.get("crop_scale") else ()
