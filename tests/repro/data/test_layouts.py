"""Layouts of the large data sets, on miniatures, and what is said where a layout is wrong."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repro.data import data_sets, inventory, loading, preparing, verifying
from repro.data.archives import OFFICIAL_CIFAR
from repro.data.layouts import table
from repro.data.layouts.class_folders import read
from repro.data.layouts.layout import ClassificationLayout, PictureSplit
from repro.data.layouts.reid_names import sysu_files
from repro.data.origins import ORIGINS
from repro.data.types import Drawn, MissingData
from repro.errors import UserError
from repro.settings import Where

Miniature = Callable[..., Path]


@pytest.fixture
def where(tmp_path: Path) -> Where:
    (tmp_path / "root").mkdir()
    return Where(tmp_path / "root", tmp_path / "cache")


def own(folder: Path) -> str:
    return f"folder:{folder}"


def root_of(where: Where) -> Path:
    assert where.data_root is not None
    return where.data_root


def test_imagenet(miniature: Miniature, where: Where) -> None:
    miniature("imagenet", root_of(where))
    train = loading.load_classification("imagenet", "train", where, size=24)
    test = loading.load_classification("imagenet", "test", where, size=24)
    assert train.pixels.shape == (24, 3, 24, 24) and test.pixels.shape == (12, 3, 24, 24)
    assert train.classes == test.classes and train.classes[0] == "n01440764"
    assert train.mean == (0.485, 0.456, 0.406)
    assert train.source == "ImageNet-1k, incomplete (24 train, 12 test)"  # never passes for the whole
    status = {s.name: s for s in inventory.statuses(where)}["imagenet"]
    assert status.found and "24 of 1,281,167 train" in status.note


def test_imagenet100_takes_the_listed_classes_only(miniature: Miniature, where: Where) -> None:
    folder = miniature("imagenet100", root_of(where))
    folder.rename(root_of(where) / "imagenet")  # the whole of ImageNet serves as well
    for split in ("train", "val"):
        (root_of(where) / "imagenet" / split / "n00000001").mkdir()
    train = loading.load_classification("imagenet100", "train", where, size=16)
    assert len(train.classes) == 100 == len(set(train.classes)) and "n02869837" in train.classes
    assert list(train.classes) == sorted(train.classes) and "n00000001" not in train.classes
    victim = root_of(where) / "imagenet" / "val" / train.classes[7]
    next(victim.iterdir()).unlink()
    victim.rmdir()
    with pytest.raises(UserError, match=f"lacks 1 of 100 class folders, the first is {victim.name}"):
        loading.load_classification("imagenet100", "train", where, size=16)


def test_pictures_are_resized_by_the_shorter_side_and_cut_in_the_middle(tmp_path: Path, where: Where) -> None:
    picture = np.zeros((60, 120, 3), np.uint8)
    picture[:, :30] = (255, 0, 0)  # outside of the middle square
    picture[:, 30:60] = (0, 255, 0)
    picture[:, 60:90] = (0, 0, 255)
    picture[:, 90:] = (255, 0, 0)
    for name in ("a", "b"):
        (tmp_path / "own" / name).mkdir(parents=True)
        Image.fromarray(picture).save(tmp_path / "own" / name / "1.png")
    kept = loading.load_classification(own(tmp_path / "own"), "train", where, size=20).pixels[0]
    assert kept[0, :, 2:-2].max() == 0
    assert (kept[1, :, 2:8] == 255).all() and (kept[2, :, 12:18] == 255).all()


def test_own_pictures_with_and_without_splits_and_classes(miniature: Miniature, tmp_path: Path, where: Where) -> None:
    folder = miniature("folder", tmp_path, classes=("cat", "dog"), train=10, test=3, splits=("train", "test"))
    assert len(loading.load_classification(own(folder), "test", where, size=16).pixels) == 6
    alone = folder / "train"  # FOLDER/CLASS/*: one fifth is held out, always the same
    train, test = (loading.load_classification(own(alone), split, where, size=16) for split in ("train", "test"))
    assert train.labels is not None and test.labels is not None
    assert np.bincount(train.labels).tolist() == [8, 8] and np.bincount(test.labels).tolist() == [2, 2]
    assert not {p.tobytes() for p in train.pixels} & {p.tobytes() for p in test.pixels}
    split = read(alone).splits
    moved = miniature("folder", tmp_path / "elsewhere", classes=("cat", "dog"), train=10, test=3) / "train"
    assert [p.name for p in read(moved).splits["test"].files] == [p.name for p in split["test"].files]
    flat = loading.load_classification(own(alone / "cat"), "train", where, size=16)  # FOLDER/*: no labels
    assert flat.labels is None and flat.classes == () and len(flat.pixels) == 10
    few: Drawn = {"pictures": 4, "seed": 0}
    assert len(loading.load_classification(own(alone / "cat"), "train", where, size=16, limit=few).pixels) == 4
    with pytest.raises(UserError, match="has no classes, so there is no test split"):
        loading.load_classification(own(alone / "cat"), "test", where, size=16)
    assert inventory.train_pictures(own(alone), where) == 16


def test_changed_pictures_do_not_meet_the_old_pack(miniature: Miniature, tmp_path: Path, where: Where) -> None:
    folder = miniature("folder", tmp_path, classes=("cat", "dog"), train=2, test=1)
    before = loading.load_classification(own(folder), "train", where, size=16)
    Image.new("RGB", (16, 16), (9, 9, 9)).save(folder / "train" / "cat" / "cat_train_0.JPEG")
    after = loading.load_classification(own(folder), "train", where, size=16)
    assert before.manifest != after.manifest
    assert (after.pixels[0] == 9).all() and not (before.pixels[0] == 9).all()
    (folder / "README.txt").write_text("no image")  # no part of the content
    assert inventory.manifest_of(own(folder), where) == after.manifest


def test_a_corrupt_picture_is_named_and_leaves_nothing_behind(
    miniature: Miniature, tmp_path: Path, where: Where
) -> None:
    folder = miniature("folder", tmp_path, classes=("cat", "dog"), train=3, test=2)
    victim = folder / "train" / "dog" / "dog_train_1.JPEG"
    whole = victim.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no image at all"):
        victim.write_bytes(content)
        with pytest.raises(UserError, match=f"cannot decode {victim}"):
            loading.load_classification(own(folder), "train", where, size=16)
        assert [p for p in (where.cache / "packed").iterdir() if p.is_dir()] == []
    assert str(victim) in str(verifying.verify(str(folder), where).problem)
    victim.write_bytes(whole)
    assert verifying.verify(str(folder), where).ok  # writes the list down
    victim.write_bytes(whole[:-1] + b"x")
    assert f"{victim} is not what it was" in str(verifying.verify(str(folder), where).problem)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "val" / "cat").rename(f / "val" / "horse"), "class 'horse' that .*train lacks"),
        (lambda f: (f / "train" / "cat" / "cat_train_0.JPEG").rename(f / "train" / "x.jpg"), "beside class folders"),
        (lambda f: (f / "train").rename(f / "learning"), "has 'val' but no 'train'"),
    ],
)
def test_wrong_folders(
    spoil: Callable[[Path], object], message: str, miniature: Miniature, tmp_path: Path, where: Where
) -> None:
    folder = miniature("folder", tmp_path, classes=("cat", "dog"), train=3, test=2)
    spoil(folder)
    with pytest.raises(UserError, match=message):
        loading.load_classification(own(folder), "train", where, size=8)


def test_no_pictures_no_folder_no_root(tmp_path: Path, where: Where) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images below"):
        loading.load_classification(own(tmp_path / "empty"), "train", where, size=8)
    with pytest.raises(MissingData, match="no folder"):
        inventory.manifest_of(own(tmp_path / "nowhere"), where)
    with pytest.raises(MissingData, match=r"searched: .*imagenet\); get it: ILSVRC"):
        loading.load_classification("imagenet", "train", where, size=8)
    with pytest.raises(MissingData, match="no data root is set"):
        loading.coco_set("coco-mini", Where(None, where.cache))
    with pytest.raises(UserError, match="did you mean 'imagenet'"):
        inventory.manifest_of("imagnet", where)
    with pytest.raises(UserError, match="'digits' is for classification, not reid"):
        loading.reid_set("digits", where, size=(8, 8))


def test_coco(miniature: Miniature, where: Where) -> None:
    from pycocotools.coco import COCO

    folder = miniature("coco2017", root_of(where))
    coco = loading.coco_set("coco2017", where)
    assert coco.classes == ("person", "car", "cat") and coco.source == "COCO 2017, incomplete (6 train, 4 val)"
    truth = COCO(str(coco.content.val.file))
    for annotation in truth.anns.values():
        x, y, w, h = annotation["bbox"]
        mask = truth.annToMask(annotation)
        assert mask.sum() == annotation["area"] == mask[y : y + h, x : x + w].sum()
    path = folder / "annotations" / "instances_val2017.json"
    whole = path.read_text()
    for text, message in (
        (whole[:500], r"val2017\.json: it is not a COCO annotation file: Unterminated string"),
        ("{}", r"val2017\.json: it is not a COCO annotation file: it has no list 'images'"),
        (whole.replace('"category_id": 1,', '"category_id": 2,'), "is not listed: its category_id is 2"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            loading.coco_set("coco2017", where)
    path.write_text(whole)
    before = inventory.manifest_of("coco2017", where)
    path.write_text(whole.replace('"iscrowd": 1', '"iscrowd": 0'))  # as long as before, and not a new file
    assert inventory.manifest_of("coco2017", where) != before
    path.unlink()
    with pytest.raises(MissingData, match=r"lacks annotations/instances_val2017\.json"):
        loading.coco_set("coco2017", where)


def test_voc(miniature: Miniature, where: Where) -> None:
    miniature("voc0712", root_of(where))
    voc = loading.coco_set("voc0712", where)
    assert len(voc.classes) == 20 and voc.source == "PASCAL VOC 2007 + 2012, incomplete (6 train, 2 val)"
    train, val = (json.loads(path.read_text()) for path in (voc.content.train.file, voc.content.val.file))
    assert [image["file_name"] for image in train["images"]] == [
        *(f"VOC2007/JPEGImages/00000{i}.jpg" for i in (1, 2, 3)),
        *(f"VOC2012/JPEGImages/2008_00000{i}.jpg" for i in (1, 2, 3)),
    ]
    assert [image["file_name"][-10:] for image in val["images"]] == ["000004.jpg", "000005.jpg"]
    names = {category["id"]: category["name"] for category in val["categories"]}
    assert [(names[a["category_id"]], a["difficult"]) for a in val["annotations"]] == [
        ("dog", 0),
        ("car", 1),
        ("dog", 0),
    ]
    for content, root in ((train, voc.content.train.folder), (val, voc.content.val.folder)):
        sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
        assert set(sizes.values()) == {(80, 60)}
        for annotation in content["annotations"]:
            x, y, w, h = annotation["bbox"]
            assert annotation["area"] == w * h and x + w <= 80 and y + h <= 60
            if names[annotation["category_id"]] == "dog":  # the box is the bright rectangle, to the pixel
                assert [x, y, w, h] == [5, 10, 20, 40]
                file = content["images"][annotation["image_id"] - 1]["file_name"]
                pixels = np.asarray(Image.open(root / file).convert("L"))
                assert pixels[10:50, 5:25].mean() > 150 > 60 > pixels[55:].mean()
            else:
                assert [x, y, w, h] == [29, 0, 51, 20]
    (line,) = (line for line in inventory.statuses(where) if line.name == "voc0712")
    assert line.found and line.counts == {"train": 6, "val": 2} and "6 of 16,551 train" in line.note
    assert not inventory.has_masks("voc0712") and inventory.has_masks("coco2017")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "VOC2007/Annotations/000002.xml",
            lambda text: text[:90],
            "000002.xml is not an annotation of PASCAL VOC",
        ),
        ("VOC2012/Annotations/2008_000001.xml", lambda text: text.replace("dog", "unicorn"), "no class 'unicorn'"),
        ("VOC2007/Annotations/000004.xml", lambda text: text.replace("xmax", "x"), "it has no bndbox/xmax"),
        ("VOC2007/Annotations/000004.xml", lambda text: text.replace(">25<", ">4<"), "a box of -1 x 40 pixels"),
        ("VOC2007/Annotations/000005.xml", None, "000005.xml is not an annotation of PASCAL VOC"),
        ("VOC2007/JPEGImages/000001.jpg", None, "000001.jpg is missing, a list of VOC2007 names it"),
        ("VOC2007/ImageSets/Main/test.txt", lambda text: "", "test.txt names no image"),
        ("VOC2012/ImageSets/Main/trainval.txt", None, r"lacks VOC2012/ImageSets/Main/trainval\.txt\); get it: host"),
    ],
)
def test_damaged_voc(
    file: str, change: Callable[[str], str] | None, message: str, miniature: Miniature, where: Where
) -> None:
    path = miniature("voc0712", root_of(where)) / file
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=message) as caught:
        loading.coco_set("voc0712", where)
    assert "\n" not in str(caught.value)


def test_market(miniature: Miniature, where: Where) -> None:
    folder = miniature("market1501", root_of(where))
    market = loading.reid_set("market1501", where, size=(32, 16))
    assert market.train.pixels.shape == (16, 3, 32, 16)
    assert sorted(set(market.gallery.pids.tolist())) == [-1, 0, 5, 6, 7]
    assert market.gallery.cams[market.gallery.pids == 0].tolist() == [3]
    assert "incomplete" in market.source
    stray = folder / "query" / "portrait.jpg"
    Image.new("RGB", (8, 8)).save(stray)
    with pytest.raises(UserError, match=f"the name of {stray} does not give identity and camera"):
        loading.reid_set("market1501", where, size=(32, 16))
    stray.rename(folder / "query" / "0001_c1s1_000001_00.jpg")
    with pytest.raises(UserError, match="identity 1 is in the training and in the test images"):
        loading.reid_set("market1501", where, size=(32, 16))


@pytest.mark.parametrize("place", ["sysu30k", "SYSU-30k-released/imagenet"])  # the latter as its authors unpack it
def test_sysu(place: str, miniature: Miniature, where: Where) -> None:
    folder = miniature("sysu30k", root_of(where))
    (root_of(where) / place).parent.mkdir(exist_ok=True)
    folder.rename(root_of(where) / place)
    sysu = loading.reid_set("sysu30k", where, size=(32, 16))
    assert len(sysu.train.pixels) == 0 and sysu.train.pixels.shape[1:] == (3, 32, 16)
    assert sysu.query.pids.tolist() == [28311, 28312, 28313] and set(sysu.query.cams) == {2}
    assert sysu.gallery.pids.tolist() == [28311, 28312, 28313, 0, 0, 0, 0] and set(sysu.gallery.cams) == {1}


def test_names_are_read_as_the_released_script_reads_them(tmp_path: Path) -> None:
    """test_sysu_combine.py: the identity ends at the first _, the camera is the digit after the first c."""
    names = ("000028311_c1_1.jpg", "0000others_c2_17.jpg", "000029310_s3c4_c5.jpg")
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    expected = {name: (name.split("_")[0], int(name.split("c")[1][0])) for name in names}
    found = sysu_files(tmp_path)
    for path, pid, cam in zip(found.files, found.pids, found.cams, strict=True):
        label, camera = expected[path.name]
        assert (pid, cam) == (0 if label == "0000others" else int(label), camera)


class _Bomb:
    """Unpickling this makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        import os

        return os.mkdir, (str(self.marker),)


def test_a_planted_cifar_pickle_is_refused_unread(tmp_path: Path, where: Where) -> None:
    marker = tmp_path / "ran"
    payload = pickle.dumps(_Bomb(marker))
    folder = root_of(where) / "cifar10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (folder / name).write_bytes(payload)
    (folder / "batches.meta").write_bytes(payload)
    with pytest.raises(UserError, match="data_batch_1 does not have the published md5"):
        loading.load_classification("cifar10", "train", where, size=32)
    assert "data_batch_1" in str(verifying.verify("cifar10", where).problem)
    from torchvision.datasets import CIFAR10

    with pytest.raises(RuntimeError, match="corrupted"):  # our check is the first of two
        CIFAR10(str(folder.parent))
    with tarfile.open(root_of(where) / "cifar-100-python.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("cifar-100-python/train")
        member.size = len(payload)
        archive.addfile(member, io.BytesIO(payload))
    with pytest.raises(UserError, match=r"cifar-100-python\.tar\.gz does not have the published md5"):
        loading.load_classification("cifar100", "train", where, size=32)
    assert not marker.exists()
    pickle.loads(payload)  # the payload does what it says
    assert marker.exists()


def test_our_md5_sums_are_torchvisions() -> None:
    from torchvision import datasets

    for official in OFFICIAL_CIFAR.values():
        theirs = getattr(datasets, official.dataset)
        listed = [*theirs.train_list, *theirs.test_list, [theirs.meta["filename"], theirs.meta["md5"]]]
        assert sorted(map(list, official.md5)) == sorted(listed)
        assert (official.url, official.archive_md5, official.folder) == (theirs.url, theirs.tgz_md5, theirs.base_folder)


def test_reading_downloads_nothing(where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(self: object, *words: object, **more: object) -> None:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", asked)
    line = r"CIFAR-10 \[cifar10\] is missing \(searched: .*root/cifar10, .*\); get it: python -m repro data get cifar10"
    for use in (
        lambda: loading.load_classification("cifar10", "train", where, size=32),
        lambda: preparing.prepare("cifar10", where, size=32),
        lambda: verifying.verify("cifar10", where),
    ):
        with pytest.raises(MissingData, match=line):
            use()
    assert inventory.manifest_of("cifar10", where)  # what is published is known all the same


def test_the_data_sets_cover_every_track_and_say_how_to_get_it() -> None:
    import tomllib
    from importlib import resources

    tracks = tomllib.loads(resources.files("repro.plan").joinpath("tracks.toml").read_text())
    for track, keys in tracks.items():
        for kind in ("classification", "detection", "reid"):
            for name in filter(None, (keys[kind], keys.get("stand_ins", {}).get(kind))):
                assert track in data_sets.require_kind(name, kind).tracks
    assert json.dumps([entry.how for entry in data_sets.DATA_SETS.values()]).isascii()


def test_every_data_set_has_a_layout_of_its_kind_and_an_origin() -> None:
    tables = {"classification": {*table.CLASSIFICATION}, "detection": {*table.DETECTION}, "reid": {*table.REID}}
    for entry in data_sets.DATA_SETS.values():
        assert entry.layout in tables[entry.kind] and entry.origin in ORIGINS
    assert set(table.LAYOUTS) == set[str]().union(*tables.values())


class _InNames(ClassificationLayout):
    """A made-up layout: the class is what stands before the - in a file's name, test pictures lie in `held`."""

    def splits(self, entry: data_sets.Entry, root: Path) -> Iterator[PictureSplit]:
        for split, folder in (("train", "shown"), ("test", "held")):
            files = sorted((root / folder).iterdir())
            labels = ["ab".index(file.name[0]) for file in files]
            yield PictureSplit(split, labels, ("a", "b"), files=[(str(file), file) for file in files])


def test_a_new_layout_is_a_row_and_a_new_data_set_an_entry(where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, names in (("shown", ("a-1", "a-2", "b-1")), ("held", ("b-2",))):
        (root_of(where) / "named" / folder).mkdir(parents=True)
        for number, name in enumerate(names):
            Image.new("RGB", (8, 8), (9, 9, number)).save(root_of(where) / "named" / folder / f"{name}.png")
    entry = data_sets.Entry(
        *("named", "Named images", "classification", "in names", (), "ours", "draw them", {"train": 3, "test": 1}),
        folders=("named",),
        parts=("shown", "held"),
    )
    monkeypatch.setitem(data_sets.DATA_SETS, "named", entry)
    for known in (table.CLASSIFICATION, table.LAYOUTS):
        monkeypatch.setitem(known, "in names", _InNames())
    train = loading.load_classification("named", "train", where, size=8)
    assert train.labels is not None and train.labels.tolist() == [0, 0, 1] and train.source == "Named images"
    assert inventory.statuses(where)[-1].counts == {"train": 3, "test": 1}
    assert verifying.verify("named", where).ok
    victim = root_of(where) / "named" / "held" / "b-2.png"
    victim.write_bytes(victim.read_bytes() + b"x")
    assert f"{victim} is not what it was" in str(verifying.verify("named", where).problem)
