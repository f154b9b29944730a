"""What can change the number of a detection, or of an instance segmentation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from eval.protocols.base import (
    LATER,
    Count,
    Counts,
    NotNegative,
    Portion,
    Positive,
    Precision,
    Probability,
    Protocol,
    ShareOrNone,
    Whole,
    require,
)


@dataclass(frozen=True, kw_only=True)
class DetectionProtocol(Protocol):
    """Boxes and instance masks: one R-CNN of mmdet on the pre-trained backbone, judged by COCO's metrics.

    The defaults are mmdet's Mask R-CNN with ResNet-50-FPN at the 1x schedule, all layers trained. A batch lies on one
    device, so the statistics of its BatchNorm layers are those of SyncBN over the devices of the papers.
    """

    kind: ClassVar[str] = "detection"
    # pictures
    short_side: Count = 800  # pixels, aspect ratio kept, unless the long side would exceed its limit
    long_side: int = 1333
    train_sides: Counts = ()  # short sides, of which a training picture gets one by chance; () = short_side
    train_long_side: int = 0  # limit of a training picture's long side; 0 = long_side
    resize: Literal["bilinear", "area"] = "bilinear"  # area: mean over the covered pixels, for strong shrinking
    hflip: bool = True  # half of the training pictures
    # network
    detector: Literal["fpn", "c4"] = "fpn"  # fpn: a pyramid of maps; c4: the third map, and the last stage on each RoI
    masks: bool = True  # Mask R-CNN; without them Faster R-CNN
    strides: Counts = (4, 8, 16, 32)  # of the pyramid's levels; the proposals use one more, twice as coarse
    width: Count = 256  # channels of the pyramid, its proposal head and the mask head
    box_head: Literal["2fc", "4conv1fc"] = "2fc"  # of the pyramid; c4 has the last stage and one linear layer
    fc_width: Count = 1024  # of the fully connected layers of the box head
    mask_convs: Whole = 4
    class_agnostic: bool = False  # one box regression and one mask for all classes: learns from far fewer objects
    anchor_size: Count = 32  # pixels, of the smallest squares; four more sizes (c4) or each level (fpn) double it
    # the encoder's weights stay as they came, pyramid and heads are trained; `norm` says what of its statistics
    frozen: bool = field(default=False, metadata=LATER)
    norm: Literal["trained", "frozen"] = "trained"  # statistics of the encoder's BatchNorm layers
    head_norm: bool = False  # fpn: BatchNorm after each convolution of pyramid, box and mask head; c4: one after res5
    precise_norm: Whole = 0  # batches that set the statistics of trained BatchNorm layers anew before the judgement
    precision: Precision = "fp32"  # autocast of the encoder; pyramid and heads are always float32
    # samples a picture
    candidates: Count = 2000  # best scored a level before non-maximum suppression, while training
    proposals: Count = 1000  # after it
    test_candidates: Count = 1000
    test_proposals: Count = 1000
    rpn_samples: Count = 256
    roi_samples: Count = 512
    # optimisation
    iterations: Count = 90000  # optimiser updates
    batch: Count = 16
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.02
    momentum: float = 0.9  # of sgd
    weight_decay: NotNegative = 1e-4  # not on 1-D parameters, position embeddings and class token
    warmup: Whole = 500  # updates, linear
    warmup_factor: Probability = 0.001  # of the rate, where the warm-up begins
    schedule: Literal["step", "cosine"] = "step"  # cosine: to 0 at the last update, the warm-up multiplied onto it
    milestones: tuple[int, ...] = (60000, 80000)  # of step: updates after which the rate is divided by ten
    clip_grad: NotNegative = 0.0  # largest gradient norm; 0 = no clipping
    # results
    score_threshold: ShareOrNone = 0.05
    nms_iou: Portion = 0.5
    max_detections: int = 100  # a picture
    metric: Literal["coco", "voc07"] = "coco"  # whose precision-recall rule `bbox_AP` is by: see detection.evaluate
    # proof that the detector learns: a second one, trained and judged on a few training pictures, without flips
    overfit_pictures: tuple[int, ...] = ()  # their COCO ids; () = no such check
    overfit_iterations: Whole = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.long_side >= self.short_side, self, "long_side", "at least the short side")
        longest = self.train_long_side or self.long_side
        fits = longest >= max(self.train_sides, default=self.short_side)
        require(fits, self, "train_long_side", "0 or at least each short side")
        doubles = bool(self.strides) and all(b == 2 * a for a, b in itertools.pairwise(self.strides))
        require(doubles, self, "strides", "a list in which each value is twice the one before it")
        require(self.schedule == "step" or not self.milestones, self, "milestones", "[] with schedule = cosine")
        require(self.metric == "coco" or not self.masks, self, "metric", "coco if masks are evaluated")
        alike = bool(self.overfit_pictures) == bool(self.overfit_iterations)
        require(alike, self, "overfit_pictures, overfit_iterations", "both given or both left out")
