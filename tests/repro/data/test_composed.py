"""The data sets composed of CIFAR-10, on a made-up one: exact, disjoint, the same every time."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repro import jobs
from repro.data import inventory, loading, verifying
from repro.data.composed import cameras, cutouts, scenes
from repro.data.composed.source import Source
from repro.data.manifest import SUMS
from repro.data.types import CocoSet, ReidSet
from repro.errors import UserError
from repro.plan.builder import make
from repro.plan.request import Request
from repro.settings import Settings, Where

pytestmark = pytest.mark.seconds

Miniature = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def few() -> object:
    """Fewer scenes than there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(scenes.SCENES, "train", 8)
        patch.setitem(scenes.SCENES, "val", 12)
        yield


@pytest.fixture(scope="module")
def where(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Where:
    root = tmp_path_factory.mktemp("data")
    miniature("cifar10-jpeg", root, train=120, test=80)
    return Where(root, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def drawn(where: Where) -> CocoSet:
    return loading.coco_set("cifar10-jpeg-scenes", where)


@pytest.fixture(scope="module")
def seen(where: Where) -> ReidSet:
    return loading.reid_set("cifar10-jpeg-cameras", where, size=(32, 32))


def made_up(asked: list[tuple[str, int]] | None = None) -> Source:
    """Discs, a colour a class, on dull noise, without any file; what is looked at is written down in `asked`."""
    labels = {"train": np.arange(60) % 3, "test": np.arange(30) % 3}

    def picture(split: str, index: int) -> np.ndarray:
        if asked is not None:
            asked.append((split, index))
        rng = np.random.default_rng([split == "train", index])
        pixels = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
        y, x = rng.integers(12, 20, 2)
        down, across = np.mgrid[:32, :32]
        disc = (down - y) ** 2 + (across - x) ** 2 < int(rng.integers(60, 100))
        pixels[disc] = 60 + 190 * np.eye(3, dtype=np.uint8)[labels[split][index]]
        return pixels

    return Source("discs", ("red", "green", "blue"), labels, picture)


def test_a_disc_is_cut_out_along_its_edge() -> None:
    source = made_up()
    for index in range(12):
        picture = source.picture("train", index)
        disc = picture.max(2) > 200
        found = cutouts.cut_out(picture)
        assert found is not None
        colours, mask = found
        assert mask.sum() / cutouts.SIDE**2 == pytest.approx(disc.mean(), rel=0.1)  # of the picture's area
        assert mask[0].any() and mask[-1].any() and mask[:, 0].any() and mask[:, -1].any()  # the box is tight
        assert (colours[mask].max(1) > 150).mean() > 0.9 > 0.1 > (colours[~mask].max(1) > 150).mean()


def test_what_cannot_be_cut_is_left_out() -> None:
    flat = Source(
        "flat", ("grey",), {"train": np.zeros(20, np.int64)}, lambda split, i: np.full((32, 32, 3), i, np.uint8)
    )
    with pytest.raises(UserError, match=r"^no object can be cut out of the train images 'grey' of flat; use other"):
        scenes.parts(flat, "train")


def test_masks_are_disjoint_and_boxes_tight(drawn: CocoSet) -> None:
    from pycocotools import mask as coco_mask

    labels = set()
    for file, count in ((drawn.content.train, 8), (drawn.content.val, 12)):
        content = json.loads(file.file.read_text())
        assert len(content["images"]) == count and "GrabCut" in content["info"]["description"]
        for image in content["images"]:
            mine = [a for a in content["annotations"] if a["image_id"] == image["id"]]
            assert 1 <= len(mine) <= 5
            masks = np.stack([coco_mask.decode(a["segmentation"]) for a in mine]).astype(bool)
            assert masks.sum(0).max() == 1
            for annotation, mask in zip(mine, masks, strict=True):
                rows, columns = np.nonzero(mask)
                x, y, w, h = annotation["bbox"]
                assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x, y, x + w, y + h)
                assert annotation["area"] == mask.sum() > 0
                labels.add(annotation["category_id"])
            assert Image.open(file.folder / image["file_name"]).size == (scenes.SIDE, scenes.SIDE)
    assert labels <= set(range(1, 11)) and len(labels) > 5 and drawn.classes[3] == "cat"


def test_no_object_is_hidden_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    made_of, place, covers = scenes.parts(made_up(), "train"), scenes._placed, list[np.ndarray]()

    def placed(*what: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shown, cover = place(*what)
        covers.append(cover > 0.5)
        return shown, cover

    monkeypatch.setattr(scenes, "_placed", placed)
    hidden = []
    for index in range(30):
        covers.clear()
        _, instances = scenes.scene(made_of, index)
        for _, visible in instances:
            whole = min((c.sum() for c in covers if not (visible & ~c).any()), default=0)
            hidden.append(1 - visible.sum() / whole)
    assert 0 < max(hidden) <= scenes.COVERED


def test_training_and_test_scenes_share_no_picture() -> None:
    assert scenes.PICTURES == {"train": "train", "val": "test"} and set(scenes.PICTURES) == set(scenes.SCENES)
    asked: list[tuple[str, int]] = []
    for split in ("train", "test"):
        asked.clear()
        made_of = scenes.parts(made_up(asked), split)
        scenes.scene(made_of, 0)
        assert {name for name, _ in asked} == {split}


def test_cameras_show_other_pictures_in_training_and_test(seen: ReidSet) -> None:
    train, query, gallery = seen.train, seen.query, seen.gallery
    assert len(set(train.pids)) == 120 and len(set(query.pids)) == 80
    assert not set(train.pids) & (set(query.pids) | set(gallery.pids))
    pairs = Counter(zip(gallery.pids.tolist(), gallery.cams.tolist(), strict=True))
    assert pairs == Counter((pid, camera) for pid in set(query.pids.tolist()) for camera in (1, 2, 3))
    assert Counter(zip(query.pids.tolist(), query.cams.tolist(), strict=True)) == pairs


def test_distractors_are_pictures_that_nobody_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "IDENTITIES", {"train": 4, "test": 5})
    monkeypatch.setattr(cameras, "DISTRACTORS", 3)
    asked: list[tuple[str, int]] = []
    cameras.write_cameras(tmp_path, made_up(asked))
    names = {part: sorted(p.name for p in (tmp_path / part).iterdir()) for part in cameras.REID_PARTS}
    assert [len(found) for found in names.values()] == [4 * 6, 5 * 3, (5 + 3) * 3]
    assert sum(name.startswith("0000_") for name in names["bounding_box_test"]) == 9
    assert len({index for split, index in asked if split == "test"}) == 8


def test_the_same_bytes_every_time_and_other_bytes_of_other_pictures(
    where: Where, drawn: CocoSet, seen: ReidSet, tmp_path: Path, miniature: Miniature
) -> None:
    again = Where(where.data_root, tmp_path / "cache")
    assert loading.coco_set("cifar10-jpeg-scenes", again).manifest == drawn.manifest
    (first,) = where.cache.glob(f"generated/cifar10-jpeg-scenes-*/{SUMS}")
    (second,) = again.cache.glob(f"generated/cifar10-jpeg-scenes-*/{SUMS}")
    assert first.read_text() == second.read_text() and first.parent.name == second.parent.name
    miniature("cifar10-jpeg", tmp_path, train=110, test=80)
    other = Where(tmp_path, tmp_path / "cache")
    for name, manifest in (("cifar10-jpeg-scenes", drawn.manifest), ("cifar10-jpeg-cameras", seen.manifest)):
        assert inventory.manifest_of(name, where) == manifest != inventory.manifest_of(name, other)


def test_generated_pixels_are_those_of_this_version() -> None:
    """If this fails after a change of a generator, raise its VERSION and write the new values here."""
    source, hashes = made_up(), {"scenes": hashlib.sha256(), "cameras": hashlib.sha256()}
    for split in ("train", "test"):
        made_of = scenes.parts(source, split)
        for index in range(5):
            picture, instances = scenes.scene(made_of, index)
            hashes["scenes"].update(picture.tobytes())
            for label, mask in instances:
                hashes["scenes"].update(bytes([label]) + mask.tobytes())
        for camera in range(cameras.CAMERAS):
            shots = (cameras.shot(source.picture(split, i), source.picture(split, 9), camera, [i]) for i in range(5))
            hashes["cameras"].update(b"".join(shot.tobytes() for shot in shots))
    found = {name: value.hexdigest()[:16] for name, value in hashes.items()}
    assert (scenes.VERSION, found["scenes"]) == ("1", "137f35b9bcc4431e")
    assert (cameras.VERSION, found["cameras"]) == ("1", "86486888d71bf7b8")


def test_damaged_scenes_are_named(where: Where, drawn: CocoSet) -> None:
    assert verifying.verify("cifar10-jpeg-scenes", where).ok
    victim = drawn.content.val.folder / drawn.content.val.images[3]["file_name"]
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert str(victim) in str(verifying.verify("cifar10-jpeg-scenes", where).problem)
    victim.write_bytes(whole)


@pytest.mark.trains
def test_raw_pixels_rank_the_cameras_as_a_plain_loop_does(where: Where, seen: ReidSet, tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path / "work", data_root=where.data_root)
    plan = make(Request(("random:pixels",), "mini", ("reid",)), settings)
    jobs.run(str(settings.workspace), [job.to_json() for job in plan.jobs], str(where.data_root))
    (file,) = (tmp_path / "work" / "records").glob("reid-*.json")
    trained_on = loading.load_classification("cifar10-jpeg", "train", where, size=32)
    mean, std = (np.array(values)[:, None, None] for values in (trained_on.mean, trained_on.std))

    def unit(picture: np.ndarray) -> np.ndarray:
        x = ((picture / 255 - mean) / std).ravel()
        return x / np.linalg.norm(x)

    gallery = [*zip(map(unit, seen.gallery.pixels), seen.gallery.pids, seen.gallery.cams, strict=True)]
    right = []
    for picture, pid, camera in zip(seen.query.pixels, seen.query.pids, seen.query.cams, strict=True):
        others = [(float(unit(picture) @ x), p) for x, p, c in gallery if (p, c) != (pid, camera)]
        right.append(max(others)[1] == pid)
    assert json.loads(file.read_text())["metrics"]["rank1"] == pytest.approx(100 * np.mean(right), abs=1.0)
