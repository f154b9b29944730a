"""Protocols: every constant that can change the number of an evaluation, named, frozen and free of torch.

A protocol is a frozen dataclass whose field defaults are the suite's own choice; ``protocols.toml`` names sets of
differences (``embedded``, ``mini``, ``fast``, a paper's own). A field's type is its key's, no key may be unknown.

    >>> load("knn", "fast", {"temperature": 0.1}).temperature
    0.1
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
import tomllib
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

Precision = Literal["fp32", "bf16"]
Interpolation = Literal["bilinear", "bicubic"]
Schedule = Literal["update", "epoch", "epoch_late", "steps"]  # see schedules.rates
LATER = {"later": True}  # metadata of a field that came after records were published: see hashed


@dataclass(frozen=True, kw_only=True)
class Features:
    """What the frozen encoder sees and says: the first fields of every protocol on features (see `transform`)."""

    name: str
    size: tuple[int, ...] = ()  # height and width in pixels to which pictures are resized; () = as they are
    interpolation: Interpolation = "bilinear"  # of that resize, always antialiased
    precision: Precision = "fp32"  # autocast of the encoder; features come out as float32 either way
    flip: Literal["none", "sum", "triplet"] = (
        "none"  # how the mirrored picture's feature is added: see features.extract
    )
    # middle of the pictures that is seen, as a share of their shorter side
    test_crop: float = dataclasses.field(default=1.0, metadata=LATER)

    def __post_init__(self) -> None:
        _require(len(self.size) in (0, 2) and min(self.size, default=1) > 0, self, "size", "[] or [height, width]")
        _require(0 < self.test_crop <= 1, self, "test_crop", "above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class KnnProtocol(Features):
    """Weighted cosine k-NN; k is chosen on a class-balanced split of the training pictures."""

    ks: tuple[int, ...] = (1, 5, 10, 20, 50, 100, 200)  # those above the number of training pictures are left out
    temperature: float = 0.07  # weight of a neighbour: exp(cosine / temperature)
    holdout: float = 0.2  # share of the training pictures on which k is chosen
    seed: int = 0  # of that split

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(min(self.ks, default=0) > 0 and len(set(self.ks)) == len(self.ks), self, "ks", "distinct, above 0")
        _require(self.temperature > 0, self, "temperature", "above 0")
        _require(0 < self.holdout < 1, self, "holdout", "between 0 and 1")
        _require(self.seed >= 0, self, "seed", "0 or more")


@dataclass(frozen=True, kw_only=True)
class LinearProtocol(Features):
    """Softmax regression on features: learning rates x weight decays, chosen on a split of the training pictures.

    With a `crop_scale` every epoch sees new crops of the training pictures through the frozen encoder, as papers do it;
    `size` is then that of the crops, () = the side at which the track pre-trains.
    """

    normalise: Literal["standardise", "l2", "none"] = "standardise"  # by statistics of the training features
    learning_rates: tuple[float, ...] = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
    base_batch: int = 256  # a rate is multiplied by batch / base_batch
    weight_decays: tuple[float, ...] = (0.0, 1e-3)  # coupled, as in torch.optim.SGD; not on the bias
    optimizer: Literal["sgd", "lars"] = "sgd"  # lars: see linear_heads.Heads
    trust: float = 0.001  # of lars
    momentum: float = 0.9
    init_std: float = 0.0  # of the heads' weights, normal; the bias starts at 0
    epochs: int = 20
    batch: int = 256
    schedule: Schedule = "update"  # cosine to 0
    warmup_epochs: float = 0.0  # linear, from warmup_factor of the rate
    warmup_factor: float = 0.0
    milestones: tuple[int, ...] = ()  # of "steps", in epochs
    holdout: float = 0.2  # share of the training pictures on which rate and decay are chosen; 0 = there is no choice
    crop_scale: tuple[float, ...] = ()  # range of a random crop's share of the area; () = cached features, no crops
    crop_ratio: tuple[float, ...] = (3 / 4, 4 / 3)  # range of its width / height
    hflip: bool = False  # half of the training crops
    test_crop: float = 1.0  # as above; with crops of the training pictures, of the test pictures alone
    low_shot: tuple[int, ...] = (10,)  # labels a class of the low-shot probe (ridge regression to one-hot targets)
    low_shot_shares: tuple[float, ...] = (0.01, 0.1)  # the same with a share of the training labels
    low_shot_splits: int = 5  # fixed, disjoint where the class is large enough
    ridge: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)  # relative to the mean squared singular value
    seed: int = 0  # of the splits, the order of pictures, the crops and the heads

    @property
    def augmented(self) -> bool:
        """Whether training pictures are cropped anew in every epoch: no cache of features will do."""
        return bool(self.crop_scale)

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(min(self.learning_rates, default=0) > 0, self, "learning_rates", "above 0")
        _require(min(self.weight_decays, default=-1) >= 0, self, "weight_decays", "0 or more")
        _require(min(self.epochs, self.batch, self.base_batch) > 0, self, "epochs, batch, base_batch", "above 0")
        _require(self.trust > 0, self, "trust", "above 0")
        for key in ("init_std", "warmup_epochs", "warmup_factor", "seed"):
            _require(getattr(self, key) >= 0, self, key, "0 or more")
        _require(self.warmup_epochs < self.epochs, self, "warmup_epochs", "fewer than the epochs")
        _require(0 <= self.holdout < 1, self, "holdout", "0 or more and below 1")
        _require(
            self.holdout > 0 or len(self.learning_rates) == len(self.weight_decays) == 1,
            self,
            "learning_rates, weight_decays",
            "one each where holdout is 0: there is nothing to choose on",
        )
        _require_training(self)
        _require(self.augmented or not self.hflip, self, "hflip", "false without crop_scale: features are cached")
        crops = "{} where crop_scale is given: there are no features of whole training pictures"
        if self.augmented:
            _require(self.normalise == "none", self, "normalise", crops.format("'none'"))
            _require(self.flip == "none", self, "flip", crops.format("'none'"))
            _require(
                not self.low_shot and not self.low_shot_shares, self, "low_shot, low_shot_shares", crops.format("[]")
            )
        _require(min(self.low_shot, default=1) > 0, self, "low_shot", "above 0")
        _require(all(0 < share < 1 for share in self.low_shot_shares), self, "low_shot_shares", "between 0 and 1")
        _require(self.low_shot_splits > 0, self, "low_shot_splits", "above 0")
        _require(min(self.ridge, default=0) > 0, self, "ridge", "above 0")


@dataclass(frozen=True, kw_only=True)
class FinetuneProtocol:
    """Encoder and a new linear head, everything trained; see finetune.py for the order of the augmentations."""

    name: str
    train_pictures: int = 0  # class-balanced subset of the training pictures; 0 = all
    train_share: float = 1.0  # the same as a share of them; every class must keep a picture
    size: tuple[int, ...] = ()  # height and width in pixels; () = as they are, of crops the side of pre-training
    epochs: int = 20
    batch: int = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3  # multiplied by batch / base_batch
    head_lr: float = 0.0  # of the linear head, likewise; 0 = as the encoder's
    base_batch: int = 256
    momentum: float = 0.9  # of sgd
    weight_decay: float = 0.05  # not on 1-D parameters, position embeddings and class token
    schedule: Schedule = "update"
    milestones: tuple[int, ...] = ()  # of "steps", in epochs
    warmup_epochs: float = 1.0  # linear from warmup_lr
    warmup_lr: float = 1e-6  # not scaled by the batch
    min_lr: float = 0.0  # end of the cosine, not scaled by the batch
    clip_grad: float = 0.0  # largest gradient norm; 0 = no clipping
    crop_padding: int = 4  # pixels of black around the picture before the random crop
    crop_scale: tuple[float, ...] = ()  # instead: range of a random crop's share of the area, resized to `size`
    crop_ratio: tuple[float, ...] = (3 / 4, 4 / 3)  # range of its width / height
    test_crop: float = 1.0  # middle of the test pictures that is seen, as a share of their shorter side
    hflip: bool = True
    randaugment: bool = False  # rand-m9-mstd0.5-inc1: two of timm's "increasing" operations a picture
    erasing: float = 0.0  # probability of random erasing with normal noise
    mixup: float = 0.0  # alpha of its Beta
    cutmix: float = 0.0  # alpha of its Beta
    mix_switch: float = 0.5  # probability of cutmix where both are on
    label_smoothing: float = 0.0
    normalise: Literal["data", "imagenet"] = "data"  # whose mean and standard deviation
    precision: Precision = "fp32"
    channels_last: bool = False
    holdout: float = (
        0.1  # share of the training pictures kept apart to choose an epoch; 0 = train on all, choose nothing
    )
    reported: Literal["last", "selected"] = "last"  # which epoch is `top1`
    test_every: int = 0  # epochs between looks at the test pictures; 0 = only the last and the selected epoch
    seed: int = 0

    def __post_init__(self) -> None:
        _require(len(self.size) in (0, 2) and min(self.size, default=1) > 0, self, "size", "[] or [height, width]")
        _require(min(self.epochs, self.batch, self.base_batch) > 0, self, "epochs, batch, base_batch", "above 0")
        _require(self.lr > 0, self, "lr", "above 0")
        _require(0 < self.train_share <= 1, self, "train_share", "above 0 and at most 1")
        _require(
            self.train_share == 1 or not self.train_pictures, self, "train_pictures, train_share", "not both given"
        )
        _require_training(self)
        _require(not (self.crop_scale and self.crop_padding), self, "crop_scale, crop_padding", "not both given")
        _require(0 <= self.holdout < 1, self, "holdout", "0 or more and below 1")
        _require(self.holdout > 0 or self.reported == "last", self, "holdout", "above 0 to report a selected epoch")
        for key in ("erasing", "label_smoothing", "mix_switch"):
            _require(0 <= getattr(self, key) <= 1, self, key, "between 0 and 1")
        for key in (
            "mixup",
            "cutmix",
            "head_lr",
            "crop_padding",
            "clip_grad",
            "train_pictures",
            "test_every",
            "weight_decay",
            "seed",
        ):
            _require(getattr(self, key) >= 0, self, key, "0 or more")


@dataclass(frozen=True, kw_only=True)
class DetectionProtocol:
    """Boxes and instance masks: one R-CNN of mmdet on the pre-trained backbone, judged by COCO's metrics.

    The defaults are mmdet's Mask R-CNN with ResNet-50-FPN at the 1x schedule, all layers trained. A batch lies on one
    device, so the statistics of its BatchNorm layers are those of SyncBN over the devices of the papers.
    """

    name: str
    # pictures
    short_side: int = 800  # pixels, aspect ratio kept, unless the long side would exceed its limit
    long_side: int = 1333
    train_sides: tuple[int, ...] = ()  # short sides, of which each training picture gets one by chance; () = short_side
    train_long_side: int = 0  # limit of a training picture's long side; 0 = long_side
    resize: Literal["bilinear", "area"] = "bilinear"  # area: mean over the covered pixels, for strong shrinking
    hflip: bool = True  # half of the training pictures
    # network
    detector: Literal["fpn", "c4"] = "fpn"  # fpn: a pyramid of maps; c4: the third map, and the last stage on each RoI
    masks: bool = True  # Mask R-CNN; without them Faster R-CNN
    strides: tuple[int, ...] = (4, 8, 16, 32)  # of the pyramid's levels; the proposals use one more, twice as coarse
    width: int = 256  # channels of the pyramid, its proposal head and the mask head
    box_head: Literal["2fc", "4conv1fc"] = "2fc"  # of the pyramid; c4 has the last stage and one linear layer
    fc_width: int = 1024  # of the fully connected layers of the box head
    mask_convs: int = 4
    class_agnostic: bool = False  # one box regression and one mask for all classes: learns from far fewer objects
    anchor_size: int = 32  # pixels, of the smallest square anchors; four more sizes (c4) or each level (fpn) double it
    norm: Literal["trained", "frozen"] = "trained"  # statistics of the encoder's BatchNorm layers
    head_norm: bool = False  # fpn: BatchNorm after each convolution of pyramid, box and mask head; c4: one after res5
    precise_norm: int = 0  # batches that set the statistics of trained BatchNorm layers anew before the judgement
    precision: Precision = "fp32"  # autocast of the encoder; pyramid and heads are always float32
    # samples a picture
    candidates: int = 2000  # best scored a level before non-maximum suppression, while training
    proposals: int = 1000  # after it
    test_candidates: int = 1000
    test_proposals: int = 1000
    rpn_samples: int = 256
    roi_samples: int = 512
    # optimisation
    iterations: int = 90000  # optimiser updates
    batch: int = 16
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.02
    momentum: float = 0.9  # of sgd
    weight_decay: float = 1e-4  # not on 1-D parameters, position embeddings and class token
    warmup: int = 500  # updates, linear
    warmup_factor: float = 0.001  # of the rate, where the warm-up begins
    schedule: Literal["step", "cosine"] = "step"  # cosine: to 0 at the last update, the warm-up multiplied onto it
    milestones: tuple[int, ...] = (60000, 80000)  # of step: updates after which the rate is divided by ten
    clip_grad: float = 0.0  # largest gradient norm; 0 = no clipping
    # results
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100  # a picture
    metric: Literal["coco", "voc07"] = "coco"  # whose precision-recall rule `bbox_AP` is by: see detection.evaluate
    # proof that the detector learns: a second one, trained and judged on a few training pictures, without flips
    overfit_pictures: tuple[int, ...] = ()  # their COCO ids; () = no such check
    overfit_iterations: int = 0

    def __post_init__(self) -> None:
        positive = "short_side, width, fc_width, anchor_size, candidates, proposals, test_candidates, test_proposals"
        _require(min(getattr(self, key) for key in positive.split(", ")) > 0, self, positive, "above 0")
        positive = "rpn_samples, roi_samples, iterations, batch"
        _require(min(getattr(self, key) for key in positive.split(", ")) > 0, self, positive, "above 0")
        _require(self.long_side >= self.short_side, self, "long_side", "at least the short side")
        _require(min(self.train_sides, default=1) > 0, self, "train_sides", "above 0")
        _require(
            (self.train_long_side or self.long_side) >= max(self.train_sides, default=self.short_side),
            self,
            "train_long_side",
            "0 or at least each short side",
        )
        _require(
            bool(self.strides) and all(b == 2 * a for a, b in itertools.pairwise(self.strides)) and self.strides[0] > 0,
            self,
            "strides",
            "a list in which each is twice the one before",
        )
        _require(self.lr > 0, self, "lr", "above 0")
        for key in ("mask_convs", "precise_norm", "weight_decay", "warmup", "clip_grad", "overfit_iterations"):
            _require(getattr(self, key) >= 0, self, key, "0 or more")
        _require(0 <= self.warmup_factor <= 1, self, "warmup_factor", "between 0 and 1")
        _require(self.schedule == "step" or not self.milestones, self, "milestones", "[] with schedule = cosine")
        _require(0 <= self.score_threshold < 1, self, "score_threshold", "0 or more and below 1")
        _require(0 < self.nms_iou <= 1, self, "nms_iou", "above 0 and at most 1")
        _require(self.metric == "coco" or not self.masks, self, "metric", "coco where there are masks")
        _require(
            bool(self.overfit_pictures) == bool(self.overfit_iterations),
            self,
            "overfit_pictures, overfit_iterations",
            "both given or both left out",
        )


@dataclass(frozen=True, kw_only=True)
class ReidProtocol(Features):
    """Ranking of a gallery for each query, in the manner of Market-1501."""

    metric: Literal["cosine", "euclidean"] = "cosine"
    no_match: Literal["exclude", "zero"] = (
        "exclude"  # a query without a right answer: left out and counted, or scored 0 (SYSU-30k)
    )
    normalise: Literal["data", "imagenet"] = (
        "data"  # whose mean and standard deviation: the pre-training's or ImageNet's
    )
    rerank: bool = False  # k-reciprocal re-ranking, see rerank.py
    rerank_k1: int = 20  # neighbours that must be mutual
    rerank_k2: int = 6  # over so many nearest is averaged, the picture itself included; 1 = not
    rerank_lambda: float = 0.3  # weight of the original distance

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(min(self.rerank_k1, self.rerank_k2) > 0, self, "rerank_k1, rerank_k2", "above 0")
        _require(0 <= self.rerank_lambda <= 1, self, "rerank_lambda", "between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class ReidFinetuneProtocol(ReidProtocol):
    """Encoder, BNNeck and classifier of identities, everything trained; then the ranking. See reid_finetune.py."""

    identities: int = 16  # of a batch
    pictures: int = 4  # of an identity in a batch
    epochs: int = 120
    lr: float = 3.5e-4  # of AdamW
    weight_decay: float = 5e-4  # not on 1-D parameters, position embeddings and class token
    schedule: Schedule = "steps"
    milestones: tuple[int, ...] = (40, 70)  # of "steps", in epochs
    warmup_epochs: float = 10.0  # linear from warmup_lr
    warmup_lr: float = 3.5e-5
    crop_padding: int = 10  # pixels of black around the picture before the random crop
    hflip: bool = True
    erasing: float = 0.5  # probability of random erasing with normal noise
    label_smoothing: float = 0.1
    margin: float = 0.3  # of the triplet loss
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(min(self.identities, self.pictures) > 1, self, "identities, pictures", "2 or more")
        _require(min(self.epochs, self.lr) > 0, self, "epochs, lr", "above 0")
        _require(bool(self.milestones) == (self.schedule == "steps"), self, "milestones", "given with 'steps'")
        for key in ("erasing", "label_smoothing"):
            _require(0 <= getattr(self, key) <= 1, self, key, "between 0 and 1")
        for key in ("weight_decay", "warmup_epochs", "warmup_lr", "crop_padding", "margin", "seed"):
            _require(getattr(self, key) >= 0, self, key, "0 or more")


Protocol = KnnProtocol | LinearProtocol | FinetuneProtocol | DetectionProtocol | ReidProtocol | ReidFinetuneProtocol

KINDS: Mapping[str, type[Protocol]] = types.MappingProxyType(
    {
        "knn": KnnProtocol,
        "linear": LinearProtocol,
        "finetune": FinetuneProtocol,
        "detection": DetectionProtocol,
        "reid": ReidProtocol,
        "reid_finetune": ReidFinetuneProtocol,
    }
)


def names(evaluation: str) -> tuple[str, ...]:
    """The named protocols of an evaluation, in the order of the file; ValueError for an unknown one."""
    _kind(evaluation)
    return tuple(_file()[evaluation])


def load(evaluation: str, name: str, overrides: Mapping[str, Any] | None = None) -> Protocol:
    """The protocol `name` of `evaluation`, some fields replaced.

    Lists of TOML become tuples and an int serves where a float is due; anything else of another type, an unknown
    evaluation, name or key, and a value out of range is a ValueError of one line.
    """
    kind = _kind(evaluation)
    tables = _file()[evaluation]
    if name not in tables:
        raise ValueError(f"no {evaluation} protocol {name!r}{_nearest(name, tables)}")
    hints = {key: hint for key, hint in typing.get_type_hints(kind).items() if key != "name"}
    fields: dict[str, Any] = {}
    for key, value in {**tables[name], **(overrides or {})}.items():
        if key not in hints:
            raise ValueError(f"{evaluation} protocol has no key {key!r}{_nearest(key, hints)}")
        fields[key] = _convert(value, hints[key], f"{evaluation}.{key}")
    return kind(name=name, **fields)


def values(protocol: Protocol) -> dict[str, Any]:
    """All that can change a number, as plain JSON: every field but the name, which is only a label."""
    fields = dataclasses.asdict(protocol)
    del fields["name"]
    return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}


def hashed(evaluation: str, stated: Mapping[str, Any]) -> dict[str, Any]:
    """Of the values of a protocol those that its hash is of: without later fields at their default.

    So a record that was left before there was such a field, and one that is left today, have the same hash.
    """
    later = {f.name: f.default for f in dataclasses.fields(_kind(evaluation)) if f.metadata.get("later")}
    return {key: value for key, value in stated.items() if key not in later or value != later[key]}


def transform(protocol: Features) -> dict[str, Any]:
    """What decides the features: keyword arguments of features.extract, to be part of a feature cache's key."""
    return {f.name: getattr(protocol, f.name) for f in dataclasses.fields(Features) if f.name != "name"}


@functools.cache
def _file() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    return tomllib.loads(resources.files("eval").joinpath("protocols.toml").read_text(encoding="utf-8"))


def _kind(evaluation: str) -> type[Protocol]:
    if evaluation not in KINDS:
        raise ValueError(f"no evaluation {evaluation!r}{_nearest(evaluation, KINDS)}")
    return KINDS[evaluation]


def _nearest(word: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(known)}"


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value in arguments:
            return value
        raise ValueError(f"{where} is one of {', '.join(arguments)}, not {value!r}{_nearest(str(value), arguments)}")
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{where} is a list of {arguments[0].__name__}, not {value!r}")
        return tuple(_convert(item, arguments[0], where) for item in value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:  # not isinstance: True is an int to it
        raise ValueError(f"{where} is {hint.__name__}, not {type(value).__name__} {value!r}")
    return value


def _require_training(protocol: LinearProtocol | FinetuneProtocol) -> None:
    scale, ratio = protocol.crop_scale, protocol.crop_ratio
    rising = "[] or [smallest, largest], above 0 and at most 1"
    _require(not scale or (len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1), protocol, "crop_scale", rising)
    _require(len(ratio) == 2 and 0 < ratio[0] <= ratio[1], protocol, "crop_ratio", "[smallest, largest], above 0")
    _require(0 < protocol.test_crop <= 1, protocol, "test_crop", "above 0 and at most 1")
    _require(bool(protocol.milestones) == (protocol.schedule == "steps"), protocol, "milestones", "given with 'steps'")


def _require(holds: bool, protocol: Any, keys: str, what: str) -> None:
    if not holds:
        got = ", ".join(repr(getattr(protocol, key)) for key in keys.split(", "))
        kind = next((name for name, kind in KINDS.items() if kind is type(protocol)), type(protocol).__name__)
        raise ValueError(f"{kind}.{keys} must be {what}, not {got}")
