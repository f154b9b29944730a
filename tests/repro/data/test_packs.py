"""The packs of real pictures: what is loaded is what is in them, and one flipped byte is named."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repro.data import data_sets, inventory, loading, verifying
from repro.data.data_sets import entry_of
from repro.data.types import MissingData
from repro.errors import UserError
from repro.settings import Where

WHOLE = pytest.mark.seconds  # whoever is first decodes 60,000 pictures


@pytest.fixture(scope="module")
def where(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Where:
    return Where(data_root, tmp_path_factory.mktemp("cache"))


@WHOLE
def test_cifar_jpeg_is_decoded_whole_and_once(where: Where) -> None:
    train = loading.load_classification("cifar10-jpeg", "train", where, size=32)
    assert train.labels is not None and train.pixels.shape == (50_000, 3, 32, 32)
    assert np.bincount(train.labels).tolist() == [5_000] * entry_of("cifar10-jpeg").class_count
    # the figures of the pack's README
    assert train.mean == (0.4913, 0.4821, 0.4465) and train.std == (0.2452, 0.2428, 0.2606)
    assert where.data_root is not None
    with np.load(where.data_root / "cifar10-jpeg" / "cifar10_jpeg.npz") as pack:
        raw, offset = pack["train_jpeg"].tobytes(), pack["train_offset"]
        for i in (0, 255, 256, 49_999):
            picture = Image.open(io.BytesIO(raw[offset[i] : offset[i + 1]])).convert("RGB")
            assert (np.asarray(picture).transpose(2, 0, 1) == train.pixels[i]).all()
            assert pack["train_label"][i] == train.labels[i]
    test = loading.load_classification("cifar10-jpeg", "test", where, size=32)
    assert test.source == "CIFAR-10 (JPEG copy)" and test.mean == train.mean and len(test.pixels) == 10_000
    assert test.classes[3] == "cat"


@WHOLE
def test_limits_are_balanced_nested_and_repeatable(where: Where) -> None:
    whole = loading.load_classification("cifar10-jpeg", "test", where, size=32)
    rows = {picture.tobytes() for picture in whole.pixels}
    previous: set[bytes] = set()
    for limit in (10, 95, 1_000, 9_990):
        some = loading.load_classification("cifar10-jpeg", "test", where, size=32, limit={"pictures": limit, "seed": 3})
        again = loading.load_classification(
            "cifar10-jpeg", "test", where, size=32, limit={"pictures": limit, "seed": 3}
        )
        assert (some.pixels == again.pixels).all() and some.labels is not None and len(some.labels) == limit
        counts = np.bincount(some.labels, minlength=10)
        assert counts.max() - counts.min() <= 1
        mine = {picture.tobytes() for picture in some.pixels}
        assert previous <= mine <= rows
        previous = mine
    assert (
        len(
            loading.load_classification(
                "cifar10-jpeg", "test", where, size=32, limit={"pictures": 10**6, "seed": 3}
            ).pixels
        )
        == 10_000
    )
    with pytest.raises(UserError, match="limit of 9 images is less than the 10 classes"):
        loading.load_classification("cifar10-jpeg", "test", where, size=32, limit={"pictures": 9, "seed": 3})


@pytest.mark.parametrize("name", ["cifar10-jpeg", "coco-mini", "vehicle-reid-market"])
def test_packs_are_what_their_sums_say(name: str, where: Where) -> None:
    seen = []
    report = verifying.verify(name, where, lambda done, total, info: seen.append((done, total)))
    assert report.ok and report.counts == data_sets.entry_of(name).counts
    assert seen[-1] == (report.files, report.files)


def test_a_flipped_byte_is_named_and_changes_the_manifest(where: Where, tmp_path: Path) -> None:
    assert where.data_root is not None
    shutil.copytree(where.data_root / "coco-mini", tmp_path / "coco-mini")
    mine = Where(tmp_path, where.cache)
    before = inventory.manifest_of("coco-mini", mine)
    assert before == inventory.manifest_of("coco-mini", where)  # the same content, elsewhere
    victim = sorted((tmp_path / "coco-mini" / "images" / "val").iterdir())[7]
    victim.parent.chmod(0o755)
    victim.chmod(0o644)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    report = verifying.verify("coco-mini", mine)
    assert not report.ok and str(victim) in str(report.problem)
    assert inventory.manifest_of("coco-mini", mine) != before
    victim.unlink()
    assert f"{victim} is missing" in str(verifying.verify("coco-mini", mine).problem)
    with pytest.raises(UserError, match=f"no image '{victim.name}' in"):
        loading.coco_set("coco-mini", mine)


def test_coco_mini(where: Where) -> None:
    coco = loading.coco_set("coco-mini", where)
    assert len(coco.classes) == 80 and coco.classes[0] == "person"
    assert "incomplete" not in coco.source


def test_vehicles(where: Where) -> None:
    vehicles = loading.reid_set("vehicle-reid-market", where, size=(48, 64))
    assert vehicles.query.pixels.shape == (162, 3, 48, 64)
    assert set(vehicles.query.pids) == set(vehicles.gallery.pids) and set(vehicles.query.cams) == {1}
    assert where.data_root is not None
    path = where.data_root / "vehicle-reid-market" / "query" / vehicles.query.files[5]
    theirs = Image.open(path).convert("RGB").resize((64, 48), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(theirs).transpose(2, 0, 1).astype(int) - vehicles.query.pixels[5]).mean() < 1.5


def test_a_truncated_pack_is_named(where: Where, tmp_path: Path) -> None:
    assert where.data_root is not None
    source = where.data_root / "cifar10-jpeg" / "cifar10_jpeg.npz"
    (tmp_path / "cifar10-jpeg").mkdir()
    short = tmp_path / "cifar10-jpeg" / "cifar10_jpeg.npz"
    short.write_bytes(source.read_bytes()[:100_000])
    mine = Where(tmp_path, tmp_path / "cache")
    with pytest.raises(UserError, match=r"cifar10_jpeg\.npz is damaged"):
        loading.load_classification("cifar10-jpeg", "train", mine, size=32)
    short.unlink()
    with pytest.raises(MissingData, match=r"lacks cifar10_jpeg\.npz"):
        inventory.manifest_of("cifar10-jpeg", mine)


@pytest.mark.processes
def test_manifests_and_statuses_are_cheap_and_need_no_arrays(
    data_root: Path, tmp_path: Path, yardstick: Callable[[], float]
) -> None:
    import subprocess
    import sys

    code = f"""
import sys, time
from pathlib import Path
from repro.data import inventory
from repro.settings import Where
where = Where(Path({str(data_root)!r}), Path({str(tmp_path)!r}))
start = time.process_time()
states = {{status.name: status for status in inventory.statuses(where)}}
for name in ("digits", "digit-scenes", "digit-cameras", "cifar10-jpeg", "coco-mini", "vehicle-reid-market"):
    inventory.manifest_of(name, where)
    assert states[name].found, name
assert not states["imagenet"].found
assert not {{"numpy", "torch", "PIL", "mlxtend"}} & set(sys.modules)
print(time.process_time() - start)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    assert float(done.stdout) < 7.5 * yardstick()  # a second
