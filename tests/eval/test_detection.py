"""Mask and Faster R-CNN: data, training, checkpoints and metrics, on drawn rectangles and real COCO pictures."""

from __future__ import annotations

import copy
import itertools
import json
import multiprocessing
import os
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from miniatures import SMALL_DETECTOR
from mmengine.model import BaseModel
from PIL import Image
from torch import Tensor, nn

from eval import detectors, protocols
from eval.coco import CocoPictures, LoadPicture, batches
from eval.coco_file import CocoFolders, read
from eval.context import Context
from eval.data import Normalisation
from eval.detection import evaluate
from eval.detection_metrics import coco_metrics, voc07_metrics
from eval.detection_training import Detector, rate
from eval.detectors import build
from eval.pictures import FOUND, TRUE
from eval.protocols.detection import DetectionProtocol
from methods.parts.encoders import ResNet, ViT
from repro.errors import Stopped
from repro.store.checkpoints import Store

# pycocotools 2.0 and numpy 2: of no consequence.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

COLOURS = Normalisation((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


class Tokens(nn.Module):
    """The least encoder with one map: patches and one layer."""

    dim, channels, strides = 12, (12,), (4,)

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, kernel_size=4, stride=4)
        self.norm = nn.LayerNorm(12)

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        return [self.norm(self.patches(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)]


class Stages(nn.Module):
    """The least encoder with four maps and BatchNorm: one convolution each; the first map has stride `first`."""

    def __init__(self, first: int = 4, width: int = 4) -> None:
        super().__init__()
        self.strides = tuple(first * 2**i for i in range(4))
        self.channels = tuple(width * 2**i for i in range(4))
        before, stride, stages = 3, first, []
        for channels in self.channels:
            layers = [nn.Conv2d(before, channels, 3, stride, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            stages.append(nn.Sequential(*layers))
            before, stride = channels, 2
        self.stages = nn.ModuleList(stages)

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def small(**changes) -> DetectionProtocol:
    sizes = {**SMALL_DETECTOR, "iterations": 2, "lr": 1e-3, "warmup_factor": 0.5}
    return protocols.load_as(DetectionProtocol, "fast", sizes | changes)


CATEGORIES = [{"id": 3, "name": "tall"}, {"id": 9, "name": "flat"}]


def rectangle(id: int, image: int, box: tuple[int, int, int, int], *, crowd: bool = False) -> dict:
    """A filled box x, y, w, h as an annotation; a crowd region in uncompressed run lengths, as COCO has them."""
    x, y, w, h = box
    polygon: object = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    if crowd:
        mask = np.zeros((80, 100), dtype=bool)
        mask[y : y + h, x : x + w] = True
        runs = [len(list(group)) for _, group in itertools.groupby(mask.T.ravel())]
        polygon = {"size": [80, 100], "counts": runs}  # the first run is of zeros
    category = 3 if h > w else 9
    return {
        "id": id,
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "area": w * h,
        "iscrowd": int(crowd),
        "segmentation": polygon,
    }


def write_split(folder: Path, sizes: list[tuple[int, int]], annotations: list[dict]) -> None:
    """Grey noise with white boxes where the annotations are; ids from 1."""
    folder.mkdir(parents=True)
    rng, images = np.random.default_rng(len(sizes)), []
    for id, (width, height) in enumerate(sizes, start=1):
        pixels = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
        for annotation in annotations:
            if annotation["image_id"] == id:
                x, y, w, h = annotation["bbox"]
                pixels[y : y + h, x : x + w] = 255
        Image.fromarray(pixels).save(folder / f"{id}.png")
        images.append({"id": id, "file_name": f"{id}.png", "width": width, "height": height})
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    folder.with_suffix(".json").write_text(json.dumps(content))


@pytest.fixture
def coco(tmp_path: Path) -> CocoFolders:
    """Five training pictures: two boxes, an upright picture, no object, only a crowd, one box; and two to judge."""
    root = tmp_path / "coco"
    write_split(
        root / "train",
        [(100, 80), (60, 90), (100, 80), (100, 80), (100, 80)],
        [
            rectangle(1, 1, (10, 12, 20, 40)),
            rectangle(2, 1, (50, 20, 40, 15)),
            rectangle(3, 2, (5, 30, 15, 50)),
            rectangle(4, 4, (20, 20, 60, 30), crowd=True),
            rectangle(5, 5, (30, 10, 22, 44)),
        ],
    )
    write_split(root / "val", [(100, 80), (100, 80)], [rectangle(1, 1, (10, 10, 20, 50))])
    return CocoFolders(root / "train", root / "train.json", root / "val", root / "val.json")


def run(coco: CocoFolders, work: Path, *, encoder: nn.Module | None = None, protocol=None, **options) -> dict:
    if encoder is None:
        torch.manual_seed(0)
        encoder = Stages()
    seed = options.pop("seed", 0)
    return evaluate(encoder, coco, COLOURS, protocol or small(), Context(folder=work, **options), seed=seed)


def weights(store, name: str = "train") -> dict[str, Tensor]:
    return store.load(f"{name}.pt")[0]["trainings"][""]["model"]


# ------------------------------------------------------------------------------------------------ the network


@pytest.mark.parametrize(
    ("encoder", "strides", "neck"),
    [(Tokens, (4, 8, 16, 32), "SimpleFeaturePyramid"), (Stages, (4, 8, 16, 32), "FPN"), (Stages, (4, 8), "FPN")],
)
def test_detector_sees_the_encoders_own_maps(encoder, strides, neck):
    encoder = encoder().eval()
    before = copy.deepcopy(encoder.state_dict())
    model = build(encoder, 5, COLOURS, small(strides=strides)).eval()
    assert type(model).__module__.startswith("mmdet.")
    assert type(model.neck).__name__ == neck
    pixels = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8)
    from mmdet.structures import DetDataSample

    sample = DetDataSample(metainfo={"img_shape": (60, 90)})
    inputs = model.data_preprocessor({"inputs": [pixels], "data_samples": [sample]}, False)["inputs"]
    # Padded to a multiple of 32 with the mean colour, normalised as everywhere in the suite.
    assert inputs.shape == (1, 3, 64, 96)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (COLOURS.mean, COLOURS.std))
    torch.testing.assert_close(inputs[0, :, :60, :90], (pixels / 255 - mean) / std, atol=1e-5, rtol=1e-5)
    assert inputs[0, :, 60:].abs().max() == 0
    seen = model.backbone(inputs)
    expected = encoder.feature_maps(inputs)[: len(seen)]
    assert len(seen) == (1 if neck == "SimpleFeaturePyramid" else len(strides))
    assert all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    sizes = [tuple(level.shape) for level in model.extract_feat(inputs)]
    expected_strides = (*strides, 2 * strides[-1])
    assert sizes == [(1, 8, -(-64 // s), -(-96 // s)) for s in expected_strides]


def test_encoder_that_ends_early_gets_coarser_levels_from_its_last_map():
    # A CIFAR stem: strides 1, 2, 4, 8; the detector takes 4 and 8 and subsamples the rest.
    model = build(Stages(first=1), 5, COLOURS, small())
    assert model.backbone.used == (2, 3)
    sizes = [level.shape[-1] for level in model.extract_feat(torch.randn(1, 3, 64, 64))]
    assert sizes == [16, 8, 4, 2, 1]


class Layers(nn.Module):
    """The least encoder under torchvision's names: `Stages` whose last stage is `layer4`."""

    def __init__(self) -> None:
        super().__init__()
        whole = Stages()
        self.strides, self.channels, self.before = whole.strides, whole.channels, whole.stages[:3]
        self.layer4 = whole.stages[3]

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in (*self.before, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_c4_splits_a_resnet_between_map_and_head(depth, stem):
    torch.manual_seed(0)
    encoder = ResNet(depth, 8, stem, False)
    with torch.no_grad():  # other statistics than a new network's
        encoder.feature_maps(torch.randn(2, 3, 64, 64))
    before = copy.deepcopy(encoder.state_dict())
    model = build(encoder, 5, COLOURS, small(detector="c4", head_norm=True, mask_convs=0)).eval()
    assert type(model).__name__ == "MaskRCNN"
    x = torch.randn(1, 3, 64, 96)
    maps = encoder.feature_maps(x)
    (seen,) = model.extract_feat(x)
    shared = model.roi_head.shared_head
    assert torch.equal(seen, maps[2])
    assert torch.equal(shared.stage(seen), maps[3])
    assert shared.stage is encoder.layer4
    assert model.rpn_head.prior_generator.strides == [(encoder.strides[2],) * 2]
    sides = [float(x2 - x1) for x1, _, x2, _ in model.rpn_head.prior_generator.base_anchors[0][5:10]]
    assert sides == [16, 32, 64, 128, 256]
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert not [key for key in model.backbone.state_dict() if "layer4" in key]  # it is trained once, in the head
    # RoIs of 14 x 14 cells become 7 x 7, and the norm behind the sum makes them standard while training.
    shared.norm.train()
    rois = shared(torch.randn(6, encoder.channels[2], 14, 14))
    assert rois.shape == (6, encoder.channels[3], 7, 7)
    torch.testing.assert_close(rois.mean(dim=(0, 2, 3)), torch.zeros(encoder.channels[3]), atol=1e-4, rtol=0)
    boxes = build(encoder, 5, COLOURS, small(detector="c4", masks=False))
    assert type(boxes).__name__ == "FasterRCNN" and not boxes.roi_head.with_mask


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("file", "name", "changes"),
    [
        ("mask-rcnn_r50_fpn", "fast", {}),
        ("mask-rcnn_r50-caffe-c4", "triplet", {"head_norm": False}),
        ("faster-rcnn_r50-caffe-c4", "voc", {"head_norm": False}),
    ],
)
def test_networks_are_mmdets_own(file, name, changes):
    """Every tensor of neck and heads, and how many anchors, proposals and samples, as in mmdet's own files."""
    import mmdet
    from mmdet.registry import MODELS
    from mmengine.config import Config

    root = Path(mmdet.__file__).parent / ".mim/configs/_base_/models"
    own = Config.fromfile(str(root / f"{file}.py")).model
    protocol = protocols.load("detection", name, changes)
    ours = build(ResNet(50, 64, "imagenet", False), 80, COLOURS, protocol)
    for part in (own, own.backbone, own.roi_head.get("shared_head", {})):
        part.pop("init_cfg", None)
    theirs = MODELS.build(own | {"_scope_": "mmdet"})

    def heads(model: nn.Module) -> dict[str, list[int]]:
        shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
        return {key: shape for key, shape in shapes.items() if "backbone" not in key and "shared_head" not in key}

    assert heads(ours) == heads(theirs)
    assert type(ours) is type(theirs)
    for mine, other in zip(
        ours.rpn_head.prior_generator.base_anchors, theirs.rpn_head.prior_generator.base_anchors, strict=True
    ):
        torch.testing.assert_close(mine, other)
    for key in ("train_cfg", "test_cfg"):
        mine, other = getattr(ours, key).to_dict(), getattr(theirs, key).to_dict()
        if key == "train_cfg":
            assert other["rpn"].pop("allowed_border") in (0, -1)  # mmdet's two files differ; detectron2 has no border
            assert mine["rpn"].pop("allowed_border") == -1
            if not protocol.masks:
                mine["rcnn"].pop("mask_size")
        elif not protocol.masks:
            mine["rcnn"].pop("mask_thr_binary")
        assert mine == other


def test_c4_needs_a_last_stage():
    with pytest.raises(ValueError, match=r"'c4' needs a ResNet"):
        build(Tokens(), 5, COLOURS, small(detector="c4"))


def test_a_detector_with_other_maps_is_refused(monkeypatch):
    whole = detectors.EncoderBackbone.forward
    monkeypatch.setattr(
        detectors.EncoderBackbone, "forward", lambda self, x: tuple(level + 1e-6 for level in whole(self, x))
    )
    for encoder, changes in ((Tokens(), {}), (Stages(), {}), (Layers(), {"detector": "c4"})):
        with pytest.raises(ValueError, match="does not compute the encoder's own feature maps"):
            build(encoder, 5, COLOURS, small(**changes))


def _vit() -> nn.Module:
    return ViT(32, 24, 2, 3, 4, False, 1e-5, "learned", "torch", False)


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (lambda: ResNet(18, 8, "cifar", False), {}),
        (lambda: ResNet(18, 8, "imagenet", False), {}),
        (lambda: ResNet(18, 8, "imagenet", False), {"detector": "c4"}),
        (_vit, {}),
    ],
)
def test_an_encoder_that_is_initialised_anew_is_refused(make, changes, monkeypatch):
    encoder = make()
    before = copy.deepcopy(encoder.state_dict())
    model = build(encoder, 5, COLOURS, small(**changes))
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())

    def init_weights(self):  # mmdet calls it on every part that has one, here in place: the encoder is changed as well
        nn.init.normal_(next(self.encoder.parameters()))

    monkeypatch.setattr(type(model.backbone), "init_weights", init_weights, raising=False)
    with pytest.raises(ValueError, match="does not compute the encoder's own feature maps"):
        build(encoder, 5, COLOURS, small(**changes))


def test_norms_of_the_heads():
    model = build(Stages(), 5, COLOURS, small(head_norm=True, box_head="4conv1fc", mask_convs=2))
    assert type(model.roi_head.bbox_head).__name__ == "Shared4Conv1FCBBoxHead"

    def norms(module: nn.Module) -> int:
        return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())

    # four laterals and four outputs; four shared convolutions; two; none in the proposal head
    assert [norms(m) for m in (model.neck, model.roi_head.bbox_head, model.roi_head.mask_head)] == [8, 4, 2]
    assert norms(model.rpn_head) == 0
    plain = build(Stages(), 5, COLOURS, small())
    assert norms(plain) == norms(plain.backbone) == 4


def test_strides_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"strides \(8, 16, 32, 64\), but detection\.strides is \(4, 8, 16, 32\)"):
        build(Stages(first=8), 5, COLOURS, small())


def test_first_anchors_have_the_protocols_size():
    model = build(Tokens(), 5, COLOURS, small(anchor_size=16))
    squares = [anchors[1] for anchors in model.rpn_head.prior_generator.base_anchors]
    assert [float(x2 - x1) for x1, _, x2, _ in squares] == [16, 32, 64, 128, 256]


@pytest.mark.trains
@pytest.mark.parametrize("norm", ["trained", "frozen"])
def test_statistics_of_batch_norm(coco, tmp_path, memory, norm):
    torch.manual_seed(0)
    encoder, store = Stages(), memory()
    run(coco, tmp_path / "work", encoder=encoder, protocol=small(norm=norm), store=store)
    trained = weights(store)
    key = "stages.0.1.running_mean"
    moved = not torch.equal(trained[f"backbone.encoder.{key}"], encoder.state_dict()[key])
    assert moved == (norm == "trained")
    assert not torch.equal(trained["backbone.encoder.stages.0.1.weight"], encoder.state_dict()["stages.0.1.weight"])


@pytest.mark.trains
@pytest.mark.parametrize("detector", ["fpn", "c4"])
def test_a_frozen_encoder_stays_and_the_heads_take_the_same_first_update(coco, tmp_path, memory, detector):
    found = {}
    for frozen in (False, True):
        torch.manual_seed(0)
        encoder, store = ResNet(18, 8, "imagenet", False), memory()
        changes = {"detector": detector, "mask_convs": 0} if detector == "c4" else {}
        run(
            coco,
            tmp_path / f"{frozen}",
            encoder=encoder,
            protocol=small(frozen=frozen, iterations=1, optimizer="sgd", clip_grad=0.0, **changes),
            store=store,
        )
        found[frozen] = weights(store)
    brought = encoder.state_dict()
    own = {key: key.rpartition("encoder.")[2].replace("roi_head.shared_head.stage", "layer4") for key in found[True]}
    learnt = [key for key, name in own.items() if name in brought and key.endswith(("weight", "bias"))]
    assert any("layer4" in own[key] for key in learnt)
    for key in learnt:
        assert torch.equal(found[True][key], brought[own[key]])
    assert not all(torch.equal(found[False][key], brought[own[key]]) for key in learnt)
    heads = [key for key, name in own.items() if name not in brought and "shared_head" not in key]
    for key in heads:
        torch.testing.assert_close(found[True][key], found[False][key])


# ------------------------------------------------------------------------------------------------ data


@pytest.mark.parametrize(("wide", "batch"), [(9, 2), (5, 3), (0, 4), (7, 1), (3, 16)])
def test_every_picture_comes_each_pass_with_its_like(wide, batch):
    sides = [i < wide for i in range(11)]
    assert len(list(batches(sides, batch, 0, 0, 30))) == 30
    length = wide // batch + (11 - wide) // batch
    length += -(-(11 - length * batch) // batch)
    for start in (0, length, 3 * length):
        one_pass = [[index for _, index in b] for b in batches(sides, batch, 5, start, start + length)]
        assert all(len(b) == batch for b in one_pass)
        counts = Counter(index for b in one_pass for index in b)
        assert set(counts) == set(range(11))
        mixed = sum(len({sides[i] for i in b}) > 1 for b in one_pass)
        assert mixed <= -(-(2 * (batch - 1)) // batch)


def test_batches_depend_on_nothing_but_seed_and_update():
    sides = [True] * 7 + [False] * 4
    whole = list(batches(sides, 2, 1, 0, 40))
    assert list(batches(sides, 2, 1, 17, 40)) == whole[17:]
    assert list(batches(sides, 2, 2, 0, 40)) != whole
    draws = [draw for batch in whole for draw, _ in batch]
    assert len(set(draws)) == len(draws)


def test_masks_and_boxes_stay_on_their_object(coco):
    data = CocoPictures(read(coco.train_json, coco.train_images, masks=True), small(), training=True)
    assert data.ids == [1, 2, 4, 5]  # without the picture that has no object
    flipped = 0
    for draw in range(8):
        item = data[draw, 0]
        sample, pixels = item["data_samples"], item["inputs"]
        assert pixels.shape == (3, 64, 80)
        assert sample.gt_instances.labels.tolist() == [0, 1]
        flipped += sample.flip
        bright = pixels.float().mean(dim=0).numpy() > 150
        assert (bright != sample.gt_instances.masks.masks.any(axis=0)).mean() < 0.05
        for mask, box in zip(sample.gt_instances.masks.masks, sample.gt_instances.bboxes.tensor, strict=True):
            rows, columns = np.nonzero(mask)
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(box.numpy(), tight, atol=1.1)
    assert 0 < flipped < 8
    several = small(train_sides=[40, 48, 56], train_long_side=60)
    data = CocoPictures(read(coco.train_json, coco.train_images, masks=True), several, training=True)
    shapes = set()
    for draw in range(12):
        item = data[draw, 0]
        masks = item["data_samples"].gt_instances.masks
        assert tuple(item["inputs"].shape[1:]) == (masks.height, masks.width)
        shapes.add(tuple(item["inputs"].shape[1:]))
    assert shapes == {(40, 50), (48, 60)}  # 56 would be 70 wide
    boxes = small(masks=False)
    data = CocoPictures(read(coco.train_json, coco.train_images, masks=False), boxes, training=False)
    assert data[0, 0]["inputs"].shape == (3, 64, 80)
    data = CocoPictures(read(coco.train_json, coco.train_images, masks=True), small(), training=True)
    assert [bool(data[draw, 0]["data_samples"].flip) for draw in (4, 4)] in ([True] * 2, [False] * 2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_pictures_are_read_as_mmcv_reads_them(tmp_path, orientation):
    import mmcv

    pixels = np.zeros((60, 96, 3), np.uint8)
    pixels[:20, :30], pixels[40:, 70:] = (200, 30, 30), (30, 200, 30)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    theirs = mmcv.imread(str(tmp_path / "a.png"), channel_order="rgb")
    height, width = theirs.shape[:2]
    ours = LoadPicture()({"img_path": str(tmp_path / "a.png"), "height": height, "width": width})["img"]
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.trains
def test_what_was_mended_stands_in_the_details(coco, tmp_path):
    whole = run(coco, tmp_path / "whole", protocol=small(iterations=1))
    assert "data" not in whole["details"]
    edit(coco.val_json, lambda content: content["annotations"][0].update(id=0, area=None))
    again = run(coco, tmp_path / "again", protocol=small(iterations=1))
    assert again["metrics"] == whole["metrics"]
    (note,) = again["details"]["data"]["val"]["notes"]
    assert (note["reason"], note["count"], note["of"]) == ("area", 1, 1)
    assert again["details"]["data"].keys() == {"val"}
    json.dumps(again["details"])


def test_schedule():
    protocol = small(lr=1.0, warmup=4, warmup_factor=0.2, iterations=30, milestones=[10, 20])
    rates = [rate(update, protocol) for update in range(30)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert (rates[9], rates[10], rates[20]) == pytest.approx((1.0, 0.1, 0.01))
    cosine = small(lr=2.0, warmup=4, warmup_factor=0.0, iterations=20, schedule="cosine")
    rates = [rate(update, cosine) for update in range(21)]
    assert rates[0] == 0
    assert (rates[2], rates[10], rates[20]) == pytest.approx((0.5 * (1 + np.cos(np.pi / 10)), 1.0, 0.0))


@pytest.mark.trains
def test_statistics_are_renewed_before_the_judgement(coco):
    """Plain means over three batches by the weights as they end, against means taken with hooks."""
    protocol = small(precise_norm=3, head_norm=True)
    torch.manual_seed(0)
    split = read(coco.train_json, coco.train_images, masks=True)
    told = []
    context = Context(progress=lambda done, total, info: told.append(done))
    detector = Detector(Stages(), split, COLOURS, protocol, context, seed=0, name="train")
    layer, seen = detector.model.backbone.encoder.stages[0][1], []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach().clone()))
    detector.train()
    assert len(seen) == 2 + 3 and told[-3:] == [3, 4, 5]
    mean = torch.stack([x.mean(dim=(0, 2, 3)) for x in seen[2:]]).mean(dim=0)
    spread = torch.stack([x.transpose(0, 1).flatten(1).var(dim=1) for x in seen[2:]]).mean(dim=0)
    torch.testing.assert_close(layer.running_mean, mean)
    torch.testing.assert_close(layer.running_var, spread)
    assert layer.momentum == 0.1


# ------------------------------------------------------------------------------------------------ the whole


@pytest.mark.trains
@pytest.mark.parametrize("encoder", [Tokens, Stages])
def test_evaluate(coco, tmp_path, memory, encoder):
    torch.manual_seed(0)
    encoder = encoder()
    encoder.requires_grad_(False)  # as a method may leave it
    before = copy.deepcopy(encoder.state_dict())
    generators = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    told: list[tuple[int, int]] = []
    protocol, store = small(overfit_pictures=[1, 2], overfit_iterations=3), memory()
    result = run(
        coco,
        tmp_path / "work",
        encoder=encoder,
        protocol=protocol,
        progress=lambda done, total, info: told.append((done, total)),
        store=store,
    )
    sizes = ("AP", "AP50", "AP75", "APs")  # one object of 20 x 50 pixels: less than 32 squared, so small
    expected = {f"{kind}_{size}" for kind in ("bbox", "segm") for size in sizes} | {"overfit_bbox_AP50"}
    assert set(result["metrics"]) == expected
    assert all(0 <= value <= 100 for value in result["metrics"].values())
    details = json.loads(json.dumps(result["details"]))
    assert details["train"]["pictures"] == 4
    assert details["overfit"]["iterations"] == 3
    assert np.isfinite([details[stage]["loss"] for stage in ("train", "overfit")]).all()
    assert told == sorted(told)
    assert told[-1] == (3 + 2 + 2 + 2, 9)  # updates and pictures judged, of the check and of the job
    with Image.open(result["artifacts"]["detections"]) as drawing:
        assert drawing.size == (550, 492)  # one picture of 100 x 80, its title and the legend
        colours = [colour for _, colour in drawing.getcolors(1 << 20)]
        assert FOUND in colours and TRUE in colours
    # The encoder passed and the global generators are as before; the copy was trained.
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in encoder.parameters())
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert (np.random.get_state()[1] == generators[1]).all()  # noqa: NPY002
    trained = weights(store)
    assert all(not torch.equal(trained[f"backbone.encoder.{key}"], before[key]) for key in before if "weight" in key)


@pytest.mark.trains
def test_boxes_alone_by_vocs_rule(coco, tmp_path):
    for file in (coco.train_json, coco.val_json):
        edit(file, lambda content: [entry.pop("segmentation") for entry in content["annotations"]])
        edit(file, lambda content: [entry.update(iscrowd=0, difficult=1) for entry in content["annotations"][3:]])
    protocol = small(detector="c4", masks=False, head_norm=True, metric="voc07", schedule="cosine")
    torch.manual_seed(0)
    result = run(coco, tmp_path / "work", encoder=Layers(), protocol=protocol)
    names = {"bbox_AP", "bbox_AP50", "bbox_AP75"}
    assert set(result["metrics"]) == names | {f"coco_{name}" for name in (*names, "bbox_APs")}
    assert result["details"]["train"]["pictures"] == 4  # difficult objects are trained on
    with Image.open(result["artifacts"]["detections"]) as drawing:
        assert drawing.size[0] == 550
    with pytest.raises(ValueError, match="none of its objects has a mask; choose a detection protocol without masks"):
        run(coco, tmp_path / "masks")


@pytest.mark.processes
def test_same_seed_same_result_whoever_loads_the_pictures(coco, tmp_path, memory):
    stores = memory(), memory()
    first = run(coco, tmp_path / "a", store=stores[0])
    np.random.seed(5)  # noqa: NPY002
    second = run(coco, tmp_path / "b", workers=1, store=stores[1])
    assert first["metrics"] == second["metrics"]
    assert first["details"] == second["details"]
    same = weights(stores[1])
    assert all(torch.equal(value, same[key]) for key, value in weights(stores[0]).items())
    other = run(coco, tmp_path / "c", seed=1)
    assert other["details"]["train"]["loss"] != first["details"]["train"]["loss"]


@pytest.mark.trains
def test_killed_job_goes_on_and_ends_the_same(coco, tmp_path, monkeypatch, memory):
    stores = memory(), memory()
    protocol = small(iterations=5, optimizer="adamw", overfit_pictures=[1, 2], overfit_iterations=4)
    whole = run(coco, tmp_path / "whole", protocol=protocol, store=stores[0])
    whole_loss, done = BaseModel.parse_losses, 0

    class Killed(BaseException):
        pass

    def killed(self, losses):
        nonlocal done
        done += 1
        if done in (3, 8):
            raise Killed
        return whole_loss(self, losses)

    monkeypatch.setattr(BaseModel, "parse_losses", killed)
    for _ in range(2):  # once within the check, once within the training
        with pytest.raises(Killed):
            run(coco, tmp_path / "killed", protocol=protocol, store=stores[1])
    resumed = run(coco, tmp_path / "killed", protocol=protocol, store=stores[1])
    assert done == 4 + 5 + 2  # no update was lost, the two that were killed came again
    assert resumed["metrics"] == whole["metrics"]
    said = {name: resumed["details"][name].pop("resumed") for name in ("overfit", "train")}
    assert said == {"overfit": "resumed after update 4", "train": "resumed after update 2"}
    assert [whole["details"][name].pop("resumed") for name in said] == ["", ""]
    assert resumed["details"] == whole["details"]
    for name in ("overfit", "train"):
        same = weights(stores[1], name)
        assert all(torch.equal(value, same[key]) for key, value in weights(stores[0], name).items())


@pytest.mark.processes
@pytest.mark.trains
def test_asked_to_stop_with_the_processes_that_load_pictures_it_has_lost_nothing(coco, tmp_path, monkeypatch):
    """As an executor asks: the whole group, from outside."""
    protocol = small(iterations=6)
    whole = run(coco, tmp_path / "whole", protocol=protocol)
    compute, done = BaseModel.parse_losses, 0

    def ask(self, losses):
        nonlocal done
        done += 1
        if done == 3:
            group = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
            assert len(group) == 2
            subprocess.run(["kill", "-TERM", *map(str, reversed(group))], check=True)
            time.sleep(0.3)
        return compute(self, losses)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(BaseModel, "parse_losses", ask)
        run(coco, tmp_path, protocol=protocol, store=Store(tmp_path / "job"), workers=1)
    assert not multiprocessing.active_children() and done == 3
    again = run(coco, tmp_path, protocol=protocol, store=Store(tmp_path / "job"))
    assert again["details"]["train"].pop("resumed") == "resumed after update 3"
    assert whole["details"]["train"].pop("resumed") == ""
    assert (again["metrics"], again["details"]) == (whole["metrics"], whole["details"])


@pytest.mark.trains
def test_it_learns_to_tell_tall_from_flat(tmp_path):
    rng = np.random.default_rng(0)
    for split, number in (("train", 24), ("val", 12)):
        boxes = []
        for image in range(1, number + 1):
            w, h = (14, 40) if rng.random() < 0.5 else (40, 14)
            x, y = int(rng.integers(0, 100 - w)), int(rng.integers(0, 80 - h))
            boxes.append(rectangle(image, image, (x, y, w, h)))
        write_split(tmp_path / split, [(100, 80)] * number, boxes)
    coco = CocoFolders(tmp_path / "train", tmp_path / "train.json", tmp_path / "val", tmp_path / "val.json")
    protocol = small(iterations=60, batch=4, optimizer="adamw", lr=5e-3, width=16, fc_width=32, clip_grad=10.0)
    torch.manual_seed(0)
    metrics = run(coco, tmp_path / "work", encoder=Stages(width=8), protocol=protocol)["metrics"]
    assert metrics["bbox_AP50"] > 50
    assert metrics["segm_AP50"] > 50


@pytest.mark.slow
@pytest.mark.trains
def test_it_learns_eight_real_pictures_by_heart(data_root, tmp_path):
    root = data_root / "coco-mini"
    coco = CocoFolders(
        root / "images/train",
        root / "annotations/instances_train.json",
        root / "images/val",
        root / "annotations/instances_val.json",
    )
    protocol = protocols.load("detection", "coco_mini", {"iterations": 1, "milestones": []})
    torch.manual_seed(0)
    metrics = run(coco, tmp_path / "work", encoder=Stages(width=16), protocol=protocol)["metrics"]
    assert metrics["overfit_bbox_AP50"] >= 10
    assert metrics["bbox_AP50"] < 5  # one update on other pictures: the network it judges is a new one


# ------------------------------------------------------------------------------------------------ metrics


def test_ground_truth_as_detections_is_100_percent(data_root):
    from pycocotools.coco import COCO

    content = json.loads((data_root / "coco-mini/annotations/instances_val.json").read_text())
    coco = COCO()
    coco.dataset = copy.deepcopy(content)
    coco.createIndex()
    results = [
        {
            "image_id": entry["image_id"],
            "category_id": entry["category_id"],
            "bbox": entry["bbox"],
            "score": 1.0,
            "segmentation": coco.annToRLE(entry),
        }
        for entry in content["annotations"]
        if not entry["iscrowd"]
    ]
    metrics = coco_metrics(content["images"], content["annotations"], content["categories"], results)
    names = {f"{kind}_{name}" for kind in ("bbox", "segm") for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")}
    assert metrics == pytest.approx(dict.fromkeys(names, 100.0))


def test_metrics_of_a_case_worked_by_hand():
    images = [{"id": 1, "file_name": "1.png", "width": 100, "height": 80}]
    truth = [rectangle(1, 1, (10, 10, 20, 40)), rectangle(2, 1, (50, 10, 20, 40))]
    # A hit of IoU 30/40 on the first, nothing on the second: precision 1 up to a recall of one half, which COCO reads
    # at 51 of 101 points, for the six thresholds up to 0.75.
    hit = {"image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 30], "score": 0.9}
    hit["segmentation"] = rectangle_mask(hit["bbox"])
    metrics = coco_metrics(images, truth, CATEGORIES, [hit])
    part = 100 * 51 / 101
    for kind in ("bbox", "segm"):
        assert metrics[f"{kind}_AP50"] == pytest.approx(part)
        assert metrics[f"{kind}_AP75"] == pytest.approx(part)
        assert metrics[f"{kind}_AP"] == pytest.approx(part * 6 / 10)
        assert f"{kind}_APm" not in metrics  # 800 square pixels are small
        assert metrics[f"{kind}_APs"] == metrics[f"{kind}_AP"]
    nothing = coco_metrics(images, truth, CATEGORIES, [])
    assert set(nothing) == set(metrics)
    assert set(nothing.values()) == {0.0}


def test_masks_are_sized_by_their_own_area():
    # A thin mask in a large box: small by its mask, medium by its box.
    images = [{"id": 1, "file_name": "1.png", "width": 100, "height": 80}]
    diagonal = rectangle(1, 1, (10, 10, 60, 60)) | {"area": 120, "segmentation": [[10, 10, 12, 10, 70, 70, 68, 70]]}
    from pycocotools import mask as coding

    (mask,) = coding.frPyObjects(diagonal["segmentation"], 80, 100)
    common = {"image_id": 1, "category_id": 9}
    stray = {**common, "bbox": [5, 5, 60, 60], "score": 0.99, "segmentation": rectangle_mask((5, 5, 4, 4))}
    hit = {**common, "bbox": [10, 10, 60, 60], "score": 0.9, "segmentation": mask}
    metrics = coco_metrics(images, [diagonal], CATEGORIES, [stray, hit])
    # The stray mask of 16 pixels is small too, so it counts as a false detection before the hit.
    assert metrics["segm_APs"] == pytest.approx(50)


def perturbed(content: dict) -> list[dict]:
    """Detections made of the truth: moved, missed, doubled, of a wrong class, on crowds, and out of nothing."""
    from pycocotools import mask as coding
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = copy.deepcopy(content)
    coco.createIndex()
    rng, results = np.random.default_rng(0), []
    classes = [category["id"] for category in content["categories"]]
    for entry in content["annotations"]:
        mask, (x, y, w, h) = coco.annToMask(entry), entry["bbox"]
        for _ in range(int(rng.choice([0, 1, 1, 1, 2, 3]))):
            dx, dy = (int(v) for v in rng.integers(-6, 7, 2))
            coded = coding.encode(np.asfortranarray(np.roll(mask, (dy, dx), (0, 1))))
            results.append(
                {
                    "image_id": entry["image_id"],
                    "category_id": entry["category_id"] if rng.random() < 0.9 else int(rng.choice(classes)),
                    "bbox": [x + dx, y + dy, w * rng.uniform(0.8, 1.2), h],
                    "score": round(float(rng.random()), 2),  # with ties
                    "segmentation": coded,
                }
            )
    for image in content["images"]:
        box = [3, 4, 30, 40]
        mask = np.zeros((image["height"], image["width"]), dtype=np.uint8, order="F")
        mask[4:44, 3:33] = 1
        stray = {"image_id": image["id"], "category_id": classes[0], "bbox": box, "score": float(rng.random())}
        results.append(stray | {"segmentation": coding.encode(mask)})
    return results


def test_metrics_are_those_of_pycocotools(data_root):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    content = json.loads((data_root / "coco-mini/annotations/instances_val.json").read_text())
    assert any(entry["iscrowd"] for entry in content["annotations"])
    results = perturbed(content)
    given = copy.deepcopy((content, results))
    ours = coco_metrics(content["images"], content["annotations"], content["categories"], results)
    assert json.dumps(content) == json.dumps(given[0])  # nothing passed was changed
    expected = {}
    for kind, other in (("bbox", "segmentation"), ("segm", "bbox")):
        truth = COCO()
        truth.dataset = copy.deepcopy(content)
        truth.createIndex()
        own = [{key: value for key, value in result.items() if key != other} for result in copy.deepcopy(results)]
        found = truth.loadRes(own)
        if kind == "segm":  # a mask is as large as it has pixels
            from pycocotools import mask as coding

            for annotation in found.dataset["annotations"]:
                assert annotation["area"] == coding.area(annotation["segmentation"])
        judge = COCOeval(truth, found, kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
        expected |= {f"{kind}_{name}": 100 * value for name, value in zip(names, judge.stats[:6], strict=True)}
    assert len(expected) == 12
    assert ours == pytest.approx(expected, abs=1e-9)
    assert 5 < ours["segm_AP"] < ours["segm_AP50"] < 95


def devkit_ap(truth: list[dict], found: list[dict], threshold: float) -> float:
    """AP of one class as the VOC development kit of 2007 computes it, detection by detection."""
    hits, taken = [], set()
    for detection_ in sorted(found, key=lambda entry: -entry["score"]):
        best, match = -1.0, None
        for entry in truth:
            if entry["image_id"] != detection_["image_id"]:
                continue
            (ax, ay, aw, ah), (bx, by, bw, bh) = detection_["bbox"], entry["bbox"]
            wide = min(ax + aw, bx + bw) - max(ax, bx)
            high = min(ay + ah, by + bh) - max(ay, by)
            if wide > 0 and high > 0:
                overlap = wide * high / (aw * ah + bw * bh - wide * high)
                if overlap > best:
                    best, match = overlap, entry
        if match is not None and best >= threshold:
            if match.get("difficult"):
                continue
            hits.append(match["id"] not in taken)
            taken.add(match["id"])
        else:
            hits.append(False)
    objects = sum(not entry.get("difficult") for entry in truth)
    total = 0.0
    for step in range(11):
        best = 0.0
        for rank in range(1, len(hits) + 1):
            if sum(hits[:rank]) / objects >= step / 10:
                best = max(best, sum(hits[:rank]) / rank)
        total += best / 11
    return total


def test_vocs_metrics_equal_a_literal_loop():
    rng = np.random.default_rng(3)
    truth, found = [], []
    for number in range(1, 61):
        w, h = (int(v) for v in rng.integers(8, 40, 2))
        x, y = (int(v) for v in rng.integers(0, 40, 2))
        entry = rectangle(number, int(rng.integers(1, 15)), (x, y, w, h)) | {"difficult": int(rng.random() < 0.2)}
        truth.append(entry)
        for _ in range(int(rng.integers(0, 4))):
            moved = [x + rng.normal(0, 2), y + rng.normal(0, 2), w * rng.uniform(0.7, 1.2), float(h)]
            category = entry["category_id"] if rng.random() < 0.9 else 3
            found.append({"image_id": entry["image_id"], "category_id": category, "bbox": moved, "score": rng.random()})
        found.append({"image_id": 20, "category_id": 9, "bbox": [0, 0, 9, 9], "score": rng.random() / 4})  # no object
    by_threshold = [
        np.mean(
            [
                devkit_ap(*([e for e in entries if e["category_id"] == c] for entries in (truth, found)), threshold)
                for c in (3, 9)
            ]
        )
        for threshold in np.arange(0.5, 1.0, 0.05)
    ]
    ours = voc07_metrics(truth, CATEGORIES, found)
    assert ours["bbox_AP50"] == pytest.approx(100 * by_threshold[0], abs=1e-4)  # its sums are float32
    assert ours["bbox_AP75"] == pytest.approx(100 * by_threshold[5], abs=1e-4)
    assert ours["bbox_AP"] == pytest.approx(100 * np.mean(by_threshold), abs=1e-4)
    assert 0 < ours["bbox_AP75"] < ours["bbox_AP50"] < 100
    assert voc07_metrics(truth, CATEGORIES, []) == {"bbox_AP": 0, "bbox_AP50": 0, "bbox_AP75": 0}


def test_difficult_objects_count_for_nothing():
    images = [{"id": 1, "file_name": "1.png", "width": 100, "height": 80}]
    truth = [rectangle(1, 1, (10, 10, 20, 40)), rectangle(2, 1, (50, 10, 20, 40)) | {"difficult": 1}]
    hits = [{"image_id": 1, "category_id": 3, "bbox": entry["bbox"], "score": 0.9} for entry in truth]
    for found in (hits, hits[:1], [hits[0], hits[1], hits[1]]):
        assert voc07_metrics(truth, CATEGORIES, found)["bbox_AP"] == pytest.approx(100)
        assert coco_metrics(images, truth, CATEGORIES, found, ["bbox"])["bbox_AP"] == pytest.approx(100)


def rectangle_mask(box) -> dict:
    from pycocotools import mask as coding

    x, y, w, h = box
    mask = np.zeros((80, 100), dtype=np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    return coding.encode(mask)


# ------------------------------------------------------------------------------------------------ bad input


def edit(file: Path, change) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.trains
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.pop("annotations"),
            r"train\.json: it is not a COCO annotation file: it has no list 'annotations'",
        ),
        (lambda c: c["annotations"].clear(), r"train\.json: its list 'annotations' is empty"),
        (lambda c: c["annotations"][0].update(category_id=77), "annotation 1 refers to an image or category"),
        (lambda c: c["annotations"][1].update(id=1), "two of its annotation entries have the same id"),
        (
            lambda c: c["images"][0].update(file_name="gone.png"),
            r"no image 'gone\.png' in .*train, although",
        ),
        (lambda c: c["images"][0].update(width=99), r"1\.png has height and width \(80, 100\)"),
        (
            lambda c: c["annotations"][3].update(segmentation={"size": [80, 100], "counts": [0, 100000]}),
            "annotation 4 of '4.png': its run lengths cover 100000 pixels",
        ),
        (lambda c: c["categories"][0].update(name="other"), "do not list the same categories"),
    ],
)
def test_bad_annotations(coco, tmp_path, change, message):
    edit(coco.train_json, change)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        run(coco, tmp_path / "work", protocol=small(iterations=4))
    assert "\n" not in str(caught.value)


def test_missing_and_broken_annotation_files(coco, tmp_path):
    coco.val_json.write_text("{")
    with pytest.raises(ValueError, match=r"val\.json: it is not a COCO annotation file"):
        run(coco, tmp_path / "work")
    coco.val_json.unlink()
    with pytest.raises(FileNotFoundError, match=r"no annotation file .*val\.json"):
        run(coco, tmp_path / "work")


@pytest.mark.processes
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("content", [b"no image", None])
def test_corrupt_picture_is_named(coco, tmp_path, workers, content):
    broken = coco.train_images / "5.png"
    broken.write_bytes(broken.read_bytes()[:2000] if content is None else content)
    with pytest.raises(ValueError, match=r"train\.json.* image 5: cannot (decode|read) .*5\.png") as caught:
        run(coco, tmp_path / "work", protocol=small(iterations=4), workers=workers)
    assert "\n" not in str(caught.value)


def test_check_on_pictures_that_are_not_there(coco, tmp_path):
    with pytest.raises(ValueError, match=r"no image 44, chosen by detection\.overfit_pictures"):
        run(coco, tmp_path / "work", protocol=small(overfit_pictures=[1, 44], overfit_iterations=1))


@pytest.mark.trains
def test_loss_that_is_not_finite(coco, tmp_path):
    with pytest.raises(ValueError, match=r"loss is (nan|inf) after .* updates; lower detection\.lr"):
        run(coco, tmp_path / "work", protocol=small(lr=1e30, iterations=4, warmup=0))


@pytest.mark.trains
def test_what_another_job_kept_is_not_taken_up(coco, tmp_path, memory):
    store = memory()
    torch.manual_seed(0)
    trained = Stages()
    with torch.no_grad():
        trained.stages[0][0].bias[0] += 1e-3  # of the same shapes, but trained otherwise
    run(coco, tmp_path, store=store)
    for options in ({"seed": 1}, {"encoder": Tokens()}, {"encoder": trained}):
        other = run(coco, tmp_path, store=store, **options)["details"]["train"]
        assert other["resumed"] == "started afresh: train.pt is from another detection"
        assert other["loss"] == run(coco, tmp_path, **options)["details"]["train"]["loss"]
