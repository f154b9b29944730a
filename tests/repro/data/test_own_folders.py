"""Folders of one's own pictures: which are splits, what is taken, what is passed over, and what is asked."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from repro import jobs
from repro.data import inventory, names, verifying
from repro.data.account import words
from repro.data.data_sets import entry_of, named
from repro.data.layouts.class_folders import read
from repro.data.manifest import Tree, check, read_sums, write_sums
from repro.data.types import quiet
from repro.errors import UserError
from repro.plan.builder import make as make_plan
from repro.plan.request import Request
from repro.settings import Settings, Where


def make(root: Path, *files: str) -> Path:
    """Files of these paths, each with a content of its own. `cat/0-9.jpg` are ten."""
    for file in files:
        stem, dash, rest = file.rpartition("0-")
        last, _, suffix = rest.partition(".") if dash else ("", "", "")
        for path in [f"{stem}{i}.{suffix}" for i in range(int(last) + 1)] if dash else [file]:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(os.fsencode(path))
    return root


def found(root: Path) -> dict[str, dict[str, int]]:
    """Pictures by split and class."""
    counts: dict[str, dict[str, int]] = {}
    for split, content in read(root).splits.items():
        counts[split] = dict.fromkeys(content.classes, 0)
        for label in content.labels or ():
            counts[split][content.classes[label]] += 1
    return counts


def said(root: Path) -> str:
    return words(read(root).account)


TRAIN_NAMES = ("train", "Train", "TRAIN", "training", "Training", "train_set", "trainset", "train2017", "train-images")
TEST_NAMES = (
    "val",
    "Val",
    "valid",
    "validation",
    "VALIDATION",
    "test",
    "TEST",
    "testing",
    "test_set",
    "val2017",
    "dev",
)


@pytest.mark.parametrize("train", TRAIN_NAMES)
def test_names_of_training_splits(train: str, tmp_path: Path) -> None:
    make(tmp_path, f"{train}/cat/0-4.jpg", f"{train}/dog/0-4.jpg", "val/cat/0-1.jpg", "val/dog/0-1.jpg")
    assert found(tmp_path) == {"train": {"cat": 5, "dog": 5}, "test": {"cat": 2, "dog": 2}}


@pytest.mark.parametrize("test", TEST_NAMES)
def test_names_of_test_splits(test: str, tmp_path: Path) -> None:
    make(tmp_path, "train/cat/0-4.jpg", "train/dog/0-4.jpg", f"{test}/cat/0-1.jpg", f"{test}/dog/0-1.jpg")
    assert found(tmp_path) == {"train": {"cat": 5, "dog": 5}, "test": {"cat": 2, "dog": 2}}
    assert said(tmp_path) == (f"14 images of 2 classes (cat, dog) taken: 10 train (from train), 4 test (from {test})")


def test_names_of_classes_are_no_names_of_splits() -> None:
    for name in (
        "trainer",
        "trains",
        "valley",
        "validate_me",
        "test tube",
        "testament",
        "retrain",
        "set",
        "2017",
        "my_test",
    ):
        assert names.part_of(name) is None


def test_of_three_splits_the_one_that_is_not_used_is_told(tmp_path: Path) -> None:
    make(tmp_path, "train/cat/0-4.jpg", "val/cat/0-2.jpg", "test/cat/0-1.jpg")
    assert found(tmp_path) == {"train": {"cat": 5}, "test": {"cat": 3}}
    assert said(tmp_path) == (
        "8 images of 1 class (cat) taken: 5 train (from train), 3 test (from val); passed over: 2 images in test"
    )
    make(tmp_path, "dev/cat/0-6.jpg", "valid/cat/0-5.jpg")  # the plainest name is used
    assert found(tmp_path)["test"] == {"cat": 3}
    assert said(tmp_path).endswith("passed over: 7 images in dev, 2 images in test, 6 images in valid")
    shutil.rmtree(tmp_path / "dev")
    shutil.rmtree(tmp_path / "valid")
    (tmp_path / "val").rename(tmp_path / "valid")
    assert found(tmp_path)["test"] == {"cat": 2}  # as ever: a folder called test
    (tmp_path / "test" / "cat").rename(tmp_path / "cat")
    make(tmp_path, "test/0-6.jpg")  # pictures without classes, as contests have them
    (tmp_path / "cat").rename(tmp_path / "train" / "cat" / "more")
    assert said(tmp_path) == (
        "10 images of 1 class (cat) taken: 7 train (from train), 3 test (from valid); passed over: 7 images in test"
    )


@pytest.mark.parametrize("name", ["train", "Train", "training", "train2017"])
def test_a_class_called_train_swallows_no_other(name: str, tmp_path: Path) -> None:
    make(tmp_path, f"{name}/0-9.jpg", "car/0-9.jpg", "plane/0-9.jpg")
    assert found(tmp_path) == {"train": {"car": 8, "plane": 8, name: 8}, "test": {"car": 2, "plane": 2, name: 2}}


ASKED: dict[str, tuple[tuple[str, ...], str]] = {
    "a train with folders beside another class": (
        ("train/a/0-1.jpg", "train/b/0-1.jpg", "car/0-1.jpg"),
        "'train' may be the training split or a class, as 'car' beside it has images too; move 'car' elsewhere if",
    ),
    "no training split": (("valid/0-1.jpg", "invalid/0-1.jpg"), "has 'valid' but no 'train'; name the folder"),
    "two training splits": (
        ("train/a/0.jpg", "Train/a/0.jpg", "val/a/0.jpg"),
        "training split (Train, train); keep",
    ),
    "two validation splits": (("train/a/0.jpg", "dev/a/0.jpg", "valid/a/0.jpg"), r"the test split \(dev, valid\)"),
    "an empty validation split": (("train/a/0.jpg", "val/notes.txt"), "val has no images; fill the folder or remove"),
    "an empty training split": (("train/notes.txt", "val/a/0.jpg"), "train has no images; fill the folder or remove"),
    "a flat validation split": (("train/a/0.jpg", "val/0.jpg"), "val has no class folders; sort its images into one"),
    "flat splits": (("train/0.jpg", "val/0.jpg"), "train has no class folders but .*val is there; sort both by class"),
    "a class that train lacks": (("train/a/0.jpg", "val/b/0.jpg"), "val has a class 'b' that .*train lacks; rename"),
    "splits by other names": (("my_train/a/0.jpg", "my_test/a/0.jpg"), "my_test, my_train look like splits, but"),
    "a folder around the splits": (("pets/train/a/0.jpg", "pets/val/a/0.jpg"), "pets holds splits .*; give .*pets as"),
    "splits in each class": (
        ("cup/train/0.jpg", "cup/test/0.jpg", "nut/train/0.jpg", "nut/test/0.jpg"),
        r"cup holds splits \(test, train\), so it is not a class",
    ),
    "images beside class folders": (("a/0.jpg", "b/0.jpg", "1.jpg"), "images beside class folders, the first is 1"),
    "images beside classes of a split": (
        ("train/a/0.jpg", "train/1.jpg"),
        "images beside class folders, the first",
    ),
    "two forms of Unicode": (("caf\u00e9/0.jpg", "cafe\u0301/0.jpg"), "has two class folders called caf\u00e9; merge"),
    "no images": (("a/0.txt", ".b/0.jpg"), "no images below .*; passed over: 1 hidden folder .*, 1 folder without"),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_cannot_be_told_is_asked(case: str, tmp_path: Path) -> None:
    files, message = ASKED[case]
    with pytest.raises(UserError, match=message.replace("(Train, train)", r"\(Train, train\)")) as caught:
        read(make(tmp_path / "own", *files))
    assert str(tmp_path / "own") in str(caught.value) and "\n" not in str(caught.value)


def test_what_systems_leave_is_passed_over_and_counted(tmp_path: Path) -> None:
    make(tmp_path, "cat/0-9.jpg", "dog/0-9.jpg", "notes.txt", "labels.csv", "cat/clip.mp4")
    plain = inventory.own_pictures(entry_of(f"folder:{tmp_path}"), Where(None, tmp_path / ".cache"))
    make(tmp_path, "cat/.DS_Store", "cat/Thumbs.db", "cat/._0.jpg", "cat/.ipynb_checkpoints/copy.jpg")
    make(tmp_path, "cat/@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/cat/._0.jpg", "lost+found/1.jpg")
    make(tmp_path, "$RECYCLE.BIN/2.jpg", ".thumbnails/3.jpg", "DESKTOP.INI", "birds/readme")
    (tmp_path / "empty").mkdir()
    assert found(tmp_path) == {"train": {"cat": 8, "dog": 8}, "test": {"cat": 2, "dog": 2}}
    assert said(tmp_path) == (
        "20 images of 2 classes (cat, dog) taken: 16 train, 4 test (a share of 20% of each class); passed over:"
        " 2 hidden files, 3 hidden folders (.cache, .thumbnails, cat/.ipynb_checkpoints),"
        " 6 files or folders of the system ($RECYCLE.BIN, DESKTOP.INI, __MACOSX, ...),"
        " 3 other files (cat/clip.mp4, labels.csv, notes.txt), 2 folders without images (birds, empty)"
    )
    again = inventory.own_pictures(entry_of(f"folder:{tmp_path}"), Where(None, tmp_path / ".cache"))
    assert again.manifest == plain.manifest


def test_all_that_pillow_decodes_is_a_picture() -> None:
    Image.init()
    readable = {suffix for suffix, form in Image.registered_extensions().items() if form in Image.OPEN}
    only_named = {  # Pillow knows these by their first bytes and decodes none of them
        suffix
        for suffix, form in Image.registered_extensions().items()
        if form == "MPEG" or (form in Image.OPEN and _is_stub(Image.OPEN[form][0]))
    }
    assert readable - only_named - {".ps", ".eps"} <= names.PICTURES
    assert {".jfif", ".jpe", ".pgm", ".webp", ".tif"} <= names.PICTURES and not names.PICTURES & only_named
    assert names.is_picture(Path("a.JPG")) and not names.is_picture(Path("._a.jpg"))


def _is_stub(factory: object) -> bool:
    return isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile)


def test_nested_folders_belong_to_their_class(tmp_path: Path) -> None:
    make(tmp_path, "cat/1.jpg", "cat/old/2.jpg", "cat/old/older/3.jpg", "dog/new/0-1.jpg", "dog/notes/a.txt")
    assert sum(found(tmp_path)["train"].values()) == 3 and found(tmp_path)["test"] == {"cat": 1, "dog": 1}
    assert "passed over: 1 folder without images (dog/notes)" in said(tmp_path)


def test_pictures_beside_splits_are_counted(tmp_path: Path) -> None:
    make(tmp_path, "train/a/0-4.jpg", "val/a/0-1.jpg", "x.jpg", "y.jpg", "extra/0-3.jpg", "devkit/data.mat")
    assert said(tmp_path).endswith(
        "passed over: 1 folder without images (devkit), 2 images beside the folders (x.jpg, y.jpg), 4 images in extra"
    )


def test_classes_without_test_pictures_are_told(tmp_path: Path) -> None:
    make(tmp_path, "train/a/0-4.jpg", "train/b/0-4.jpg", "val/a/0-1.jpg")
    assert said(tmp_path).endswith("2 test (from val); no test images of 1 class (b)")


def test_links(tmp_path: Path) -> None:
    own = make(tmp_path / "own", "cat/0-4.jpg", "cat/2024/5.jpg", "dog/0-4.jpg", "data.txt")
    before = found(own)
    (own / "cat" / "up").symlink_to("..")
    (own / "dog" / "far").symlink_to(tmp_path)
    (own / "cat" / "latest").symlink_to("2024")
    (own / "labels.csv").symlink_to("nowhere")
    assert found(own) == before
    assert "1 broken link (labels.csv), 2 links to a folder above (cat/up, dog/far)" in said(own)
    assert "1 link to a folder of the same class (cat/latest)" in said(own)
    (own / "cow").symlink_to("dog")
    with pytest.raises(UserError, match=r"own/dog is a folder of .*own/cow too; remove one of the links"):
        read(own)
    (own / "cow").unlink()
    (own / "cow").symlink_to("/mnt/not/mounted")  # a class would be gone
    with pytest.raises(UserError, match=r"own/cow is a broken link \(to /mnt/not/mounted\); bring back"):
        read(own)
    (own / "cow").unlink()
    (own / "cat" / "9.jpg").symlink_to("9.jpg")
    with pytest.raises(UserError, match=r"cat/9\.jpg is a broken link"):
        read(own)


def test_class_folders_may_be_links(tmp_path: Path) -> None:
    make(tmp_path / "store", "a/0-4.jpg", "b/0-4.jpg")
    own = make(tmp_path / "own", "notes.txt")
    for name in "ab":
        (own / name).symlink_to(tmp_path / "store" / name)
    assert found(own) == {"train": {"a": 4, "b": 4}, "test": {"a": 1, "b": 1}}


def test_folders_that_all_link_to_each_other_are_listed_once(tmp_path: Path) -> None:
    parts = [f"cat/{i}" for i in range(12)]  # more than 10^9 paths lead through them
    make(tmp_path, "dog/0.jpg", *(f"{part}/0.jpg" for part in parts))
    for part in parts:
        for other in range(12):
            if not part.endswith(f"/{other}"):
                (tmp_path / part / f"to{other}").symlink_to(f"../{other}")
    assert read(tmp_path).account.pictures == 13
    assert "132 links to a folder of the same class (cat/0/to1, cat/0/to10, cat/0/to11, ...)" in said(tmp_path)


def test_pipes_are_passed_over_and_nobody_waits_for_them(tmp_path: Path) -> None:
    make(tmp_path, "cat/0-4.jpg")
    os.mkfifo(tmp_path / "cat" / "9.jpg")
    (tmp_path / "cat" / "8.jpg").symlink_to("/dev/null")
    assert said(tmp_path).endswith("passed over: 2 pipes, sockets or devices (cat/8.jpg, cat/9.jpg)")


def test_an_empty_picture_is_named(tmp_path: Path) -> None:
    make(tmp_path, "cat/0-4.jpg")
    (tmp_path / "cat" / "3.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot decode .*cat/3\.jpg \(it is empty\); replace or remove"):
        inventory.manifest_of(f"folder:{tmp_path}", Where(None, tmp_path / ".cache"))


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "cat/0-4.jpg", "dog/deep/0.jpg", "lost+found/0.jpg")
    whole, opened = os.scandir, Path.open

    def scandir(path: Path) -> object:
        if Path(path).name in ("deep", "lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"cannot read .*dog/deep \(permission denied\); give yourself the .* move"):
        read(tmp_path)
    monkeypatch.setattr(os, "scandir", whole)

    def open_(path: Path, *arguments: str, **more: str) -> object:
        if path.name == "3.jpg":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", open_)
    with pytest.raises(UserError, match=r"cannot read .*cat/3\.jpg \(permission denied\); give yourself the .* remove"):
        inventory.manifest_of(f"folder:{tmp_path}", Where(None, tmp_path / ".cache"))


LATIN = "caf\udce9"  # what Python makes of the byte E9


def test_names_that_are_no_text(tmp_path: Path) -> None:
    own = make(tmp_path / "own", f"{LATIN}/0-4.jpg", f"a\nb/{LATIN}.jpg", "a\nb/x\ny.jpg", "a\nb/\\n.jpg")
    make(own, "a\nb/" + "n" * 251 + ".jpg", f"a\nb/{LATIN}.txt")
    account = read(own).account
    assert account.classes == ("a\\nb", "caf\\xe9") and account.pictures == 9
    assert words(account).endswith("passed over: 1 other file (a\\nb/caf\\xe9.txt)")
    where = Where(None, tmp_path / "cache")
    before = inventory.manifest_of(f"folder:{own}", where)
    tree = Tree(own, (".",), names=tuple(str(p.relative_to(own)) for p in read(own).splits["train"].files))
    write_sums(tree, tmp_path / "SUMS")
    assert check(tree, read_sums(tmp_path / "SUMS"), quiet) is None
    (own / LATIN / "0.jpg").rename(own / LATIN / f"{LATIN}.jpg")
    assert inventory.manifest_of(f"folder:{own}", where) != before
    broken = own / "a\nb" / "x.jpg"
    broken.symlink_to("nowhere")
    with pytest.raises(UserError) as caught:
        read(own)
    assert str(caught.value).startswith(f"{own}/a\\nb/x.jpg is a broken link")
    bad = tmp_path / LATIN
    own.rename(bad)
    with pytest.raises(UserError, match=r"the path of the folder .*caf\\xe9 has bytes that are not UTF-8"):
        named(str(bad))
    with pytest.raises(UserError, match="unknown data set"):
        named("n" * 300)


def test_sums_are_written_as_sha256sum_does(tmp_path: Path) -> None:
    make(tmp_path, "a\nb.jpg", "c\\d.jpg", "e f.jpg")
    write_sums(Tree(tmp_path, (".",), names=("a\nb.jpg", "c\\d.jpg", "e f.jpg")), tmp_path / "SUMS")
    first, second, third = (tmp_path / "SUMS").read_text().splitlines()
    assert first.startswith("\\") and first.endswith("  a\\nb.jpg")
    assert second.startswith("\\") and second.endswith("  c\\\\d.jpg")
    assert third[64:] == "  e f.jpg"


def test_a_list_of_sums_may_name_what_is_no_picture(tmp_path: Path) -> None:
    own = make(tmp_path / "own", "cat/0-4.jpg", "LICENSE")
    files = tuple(p.relative_to(own).as_posix() for p in sorted(own.rglob("*")) if p.is_file())
    write_sums(Tree(own, (".",), names=files), own / "SHA256SUMS")
    assert verifying.verify(str(own), Where(None, tmp_path / "cache")).ok
    (own / "LICENSE").unlink()
    assert "LICENSE is missing" in str(verifying.verify(str(own), Where(None, tmp_path / "cache")).problem)


def test_the_same_pictures_have_one_manifest_wherever_and_in_whatever_form_of_unicode(tmp_path: Path) -> None:
    where = Where(None, tmp_path / "cache")
    values = set()
    for place, name in (("a", "\u00e9"), ("b", "e\u0301")):
        own = tmp_path / place
        for i in range(5):
            make(own / name, f"{i}.jpg").joinpath(f"{i}{name}.jpg").write_bytes(b"x" * i + b"y")
        values.add(inventory.manifest_of(f"folder:{own}", where))
    assert len(values) == 1
    (tmp_path / "a" / "\u00e9" / "4.jpg").rename(tmp_path / "a" / "\u00e9" / "5.jpg")
    assert inventory.manifest_of(f"folder:{tmp_path / 'a'}", where) not in values


def test_what_was_once_read_otherwise_has_another_manifest(tmp_path: Path) -> None:
    for train, test, as_ever in (("train", "val", True), ("train", "valid", False), ("Train", "val", False)):
        own = make(tmp_path / f"{train} {test}", f"{train}/cat/0-4.jpg", f"{test}/cat/0-1.jpg")
        paths = sorted(path.relative_to(own).as_posix() for path in own.rglob("*.jpg"))
        lines = [f"{hashlib.sha256((own / path).read_bytes()).hexdigest()}  {path}" for path in paths]
        content = hashlib.sha256("\0".join(lines).encode()).hexdigest()
        value = inventory.manifest_of(f"folder:{own}", Where(None, tmp_path / "cache"))
        assert (value == hashlib.sha256(f"1\0{content}".encode()).hexdigest()) is as_ever


def test_a_class_that_is_gone_is_told_once(tmp_path: Path) -> None:
    own, where = make(tmp_path / "own", "cat/0-4.jpg", "dog/0-4.jpg", "cow/0-6.jpg"), Where(None, tmp_path / "cache")
    planned = inventory.own_pictures(entry_of(f"folder:{own}"), where)
    assert not planned.account.gone
    (own / "cow").rename(tmp_path / "cow")
    job = {"name": f"folder:{own}", "manifest": planned.manifest}
    with pytest.raises(UserError, match=r"own has changed since this job was planned: now 10 images of 2 classes"):
        inventory.require_unchanged(job, where)
    (tmp_path / "cow").rename(own / "cow")
    inventory.require_unchanged(job, where)
    (own / "cow").rename(tmp_path / "cow")
    account = inventory.own_pictures(entry_of(f"folder:{own}"), where).account
    assert account.gone == (("cow", 7),)
    assert words(account).endswith("; no longer there: 1 class (cow with 7 images)")
    assert not inventory.own_pictures(entry_of(f"folder:{own}"), where).account.gone


@pytest.mark.seconds  # it imports torch
def test_a_job_does_not_take_other_pictures_than_were_planned(tmp_path: Path) -> None:
    own, settings = make(tmp_path / "own", "cat/0-4.jpg", "dog/0-4.jpg"), Settings(workspace=tmp_path / "work")
    planned = make_plan(Request(("random",), data=str(own), evaluations=("knn",)), settings)
    (own / "dog").rename(tmp_path / "dog")
    with pytest.raises(SystemExit, match=r"own has changed since this job was planned: now 5 images of 1 class"):
        jobs.run(str(settings.workspace), [job.to_json() for job in planned.jobs])


def test_a_folder_that_is_no_more_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder of images"):
        inventory.own_pictures(entry_of(f"folder:{tmp_path / 'gone'}"), Where(None, tmp_path / "cache"))
