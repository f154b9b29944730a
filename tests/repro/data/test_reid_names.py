"""Names of re-ID pictures: the same pictures under the names of any data set are the same identities and cameras."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from eval import protocols, reid
from eval.data import Identified
from repro.data import inventory, loading
from repro.data.layouts.reid_names import KNOWN, kind_of
from repro.data.types import ReidSet
from repro.errors import UserError, printable
from repro.settings import Where

SETS = {
    "market": "{pid:04d}_c{cam}s1_{frame:06d}_00.jpg",
    "veri": "{pid:04d}_c{cam:03d}_{frame:08d}_0.jpg",
    "duke": "{pid:04d}_c{cam}_f{frame:07d}.jpg",
    "msmt": "{pid:04d}_{frame:03d}_{cam:02d}_0303morning_{frame:04d}_0.jpg",
}
PARTS = ("bounding_box_train", "query", "bounding_box_test")
# (folder, identity, camera) of pictures whose cameras have one digit and two, and share first digits
CAMERAS = (1, 10, 14, 15, 2)
SHOWN = [
    *((0, pid, cam) for pid in (1, 2, 3) for cam in CAMERAS[:2]),
    *((1, pid, CAMERAS[pid % 5]) for pid in range(11, 23)),
    *((2, pid, cam) for pid in range(11, 23) for cam in CAMERAS),
]


def write(root: Path, names: str) -> None:
    """The pictures under those names, in Market-1501's folders."""
    rng = np.random.default_rng(0)
    for frame, (part, pid, cam) in enumerate(SHOWN):
        folder = root / "vehicle-reid-market" / PARTS[part]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / names.format(pid=pid, cam=cam, frame=frame), "PNG")


def load(tmp_path: Path) -> ReidSet:
    return loading.reid_set("vehicle-reid-market", Where(tmp_path, tmp_path / "cache"), size=(8, 8))


@pytest.mark.parametrize("names", SETS)
def test_the_same_pictures_have_the_same_identities_cameras_and_map(names: str, tmp_path: Path) -> None:
    write(tmp_path, SETS[names])
    found = load(tmp_path)
    told = {}
    for part, split in enumerate((found.train, found.query, found.gallery)):
        assert Counter(zip(split.pids.tolist(), split.cams.tolist(), strict=True)) == Counter(
            (pid, cam) for of, pid, cam in SHOWN if of == part
        )
        told |= {pixels.tobytes(): seen for pixels, *seen in zip(split.pixels, split.pids, split.cams, strict=True)}
    rng = np.random.default_rng(0)
    for _, pid, cam in SHOWN:  # each picture its own
        assert told[rng.integers(0, 255, (8, 8, 3), dtype=np.uint8).transpose(2, 0, 1).tobytes()] == [pid, cam]

    features = [
        Identified(split.pixels.reshape(len(split.pids), -1).astype(np.float32), split.pids, split.cams)
        for split in (found.query, found.gallery)
    ]
    metrics = reid.evaluate(*features, protocols.load("reid", "mini"))["metrics"]
    assert metrics["mAP"] == pytest.approx(naive_map(), abs=1e-3)


def naive_map() -> float:
    """mAP of the pixels by its definition, in percent, from what was drawn and not from any name."""
    rng = np.random.default_rng(0)
    drawn = [(*shown, rng.integers(0, 255, (8, 8, 3), dtype=np.uint8).astype(float).ravel()) for shown in SHOWN]
    queries, gallery = ([rest for part, *rest in drawn if part == number] for number in (1, 2))
    scores = []
    for pid, cam, x in queries:
        seen = [(p, y @ x / np.linalg.norm(y) / np.linalg.norm(x)) for p, c, y in gallery if (p, c) != (pid, cam)]
        right = [p == pid for p, _ in sorted(seen, key=lambda entry: -entry[1])]
        ranks = [rank for rank, hit in enumerate(right, 1) if hit]
        scores.append(np.mean([number / rank for number, rank in enumerate(ranks, 1)]))
    return float(100 * np.mean(scores))


@pytest.mark.parametrize(
    ("name", "of", "told"),
    [
        ("0002_c1s1_000451_03.jpg", "Market-1501", (2, 1)),
        ("-1_c3s2_001116_04.jpg", "Market-1501", (-1, 3)),
        ("0000_c6s3_088467_05.jpg", "Market-1501", (0, 6)),
        ("0406_c12s1_000016_00.jpg", "Market-1501", (406, 12)),
        ("0001_c001_00016450_0.jpg", "VeRi-776", (1, 1)),
        ("0776_c020_00085680_0.jpg", "VeRi-776", (776, 20)),
        ("0003_c2_10.png", "VeRi-776", (3, 2)),  # CUHK03-NP
        ("0001_c1_f0044158.jpg", "DukeMTMC-reID", (1, 1)),
        ("7140_c8_f0081285.jpg", "DukeMTMC-reID", (7140, 8)),
        ("0000_000_01_0303morning_0015_0.jpg", "MSMT17", (0, 1)),
        ("3059_012_15_0113afternoon_1186_2.jpg", "MSMT17", (3059, 15)),
        ("0042_001_07_0302noon_0032_1_ex.jpg", "MSMT17", (42, 7)),
    ],
)
def test_names_of_the_data_sets(name: str, of: str, told: tuple[int, int]) -> None:
    kind = kind_of([Path(name)])
    assert (kind.of, kind.read(name)) == (of, told)
    assert [names.of for names in KNOWN if names.read(name)] == [of]  # and no other


@pytest.mark.parametrize(
    "name",
    [
        "img_0001.jpg",
        "0001.jpg",
        "person5-cam2.jpg",
        "0001_cam2_0003.jpg",
        "0001c2s1_000451_03.jpg",
        "-2_c1s1_000451_03.jpg",
        "0001_c_0003.jpg",
        "0001_cs1_000451_03.jpg",
        "0001_c1-2.jpg",
        "0001_c1s_000451_03.jpg",
        "0000_000_01_0303evening_0015_0.jpg",
        "\u0661_c1s1_000451_03.jpg",  # a digit, but none of ours
        "9" * 30 + "_c1s1_000451_03.jpg",  # no number that 64 bits hold
    ],
)
def test_a_name_of_no_kind_is_one_line_with_the_kinds_that_are_known(name: str, tmp_path: Path) -> None:
    write(tmp_path, SETS["market"])
    victim = tmp_path / "vehicle-reid-market" / "query" / name
    Image.new("RGB", (8, 8)).save(victim, "PNG")
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    line = str(caught.value)
    assert (
        line.startswith(f"the name of {victim} does not give identity and camera; rename it like ") and "\n" not in line
    )
    assert all(names.example in line for names in KNOWN)


def test_names_of_two_kinds_are_refused(tmp_path: Path) -> None:
    write(tmp_path, SETS["market"])
    other = tmp_path / "vehicle-reid-market" / "bounding_box_test" / "0012_c1_f0044158.jpg"
    Image.new("RGB", (8, 8)).save(other, "PNG")
    with pytest.raises(UserError, match=rf"is named as in Market-1501, but {other} as in DukeMTMC-reID; keep one kind"):
        load(tmp_path)


def test_junk_among_the_queries_is_named(tmp_path: Path) -> None:
    write(tmp_path, SETS["market"])
    victim = tmp_path / "vehicle-reid-market" / "query" / "-1_c1s1_000009_00.jpg"
    Image.new("RGB", (8, 8)).save(victim, "PNG")
    with pytest.raises(UserError, match=f"{victim} is junk .identity -1., which only gallery images may be"):
        load(tmp_path)


def test_junk_and_distractors_of_the_gallery_keep_their_numbers_and_folders_are_looked_into(tmp_path: Path) -> None:
    write(tmp_path, SETS["market"])
    for name in ("-1_c3s1_000009_00.jpg", "persons/0000_c12s1_000009_00.jpg"):
        path = tmp_path / "vehicle-reid-market" / "bounding_box_test" / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(path, "PNG")
    gallery = load(tmp_path).gallery
    told = dict(zip(gallery.files, zip(gallery.pids.tolist(), gallery.cams.tolist(), strict=True), strict=True))
    assert len(told) == 62 and told["-1_c3s1_000009_00.jpg"] == (-1, 3)
    assert told["persons/0000_c12s1_000009_00.jpg"] == (0, 12)


def test_msmt17_numbers_persons_from_0_and_anew_in_its_test_set(tmp_path: Path) -> None:
    for part, pids in (("bounding_box_train", (0, 1, 2)), ("query", (0, 1)), ("bounding_box_test", (0, 1, 2))):
        for pid in pids:
            path = tmp_path / "vehicle-reid-market" / part / SETS["msmt"].format(pid=pid, cam=1 + len(part), frame=3)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), (40 * pid, 9, 200), np.uint8)).save(path, "PNG")
    found = load(tmp_path)
    assert len(set(found.train.pids)) == 3 and len(set(found.gallery.pids)) == 3
    assert not set(found.train.pids) & set(found.gallery.pids) and set(found.query.pids) < set(found.gallery.pids)
    assert min(*found.train.pids, *found.gallery.pids) > 0  # nobody is a distractor


@pytest.mark.parametrize("names", ["veri", "market"])
def test_only_a_data_set_whose_cameras_were_misread_is_packed_anew(names: str, tmp_path: Path) -> None:
    """Version 1 read the first digit of a camera; its packs of cameras 1 to 9 stay good."""
    root = tmp_path / "vehicle-reid-market"
    for part, pid in zip(PARTS, (1, 2, 2), strict=True):
        (root / part).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / part / SETS[names].format(pid=pid, cam=3, frame=4), "PNG")
    where = Where(tmp_path, tmp_path / "cache")
    manifest = inventory.manifest_of("vehicle-reid-market", where)
    first, second = (text_sha256_of(version, root) for version in "12")
    assert manifest == (first if names == "market" else second)


def text_sha256_of(version: str, root: Path) -> str:
    """A manifest by hand: version and the sorted lines of a SHA256SUMS file."""
    import hashlib

    lines = sorted(
        (path.relative_to(root).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()) for path in root.rglob("*.*")
    )
    content = hashlib.sha256("\0".join(f"{value}  {name}" for name, value in lines).encode()).hexdigest()
    return hashlib.sha256(f"{version}\0{content}".encode()).hexdigest()


# ------------------------------------------------------------------------------------------- names that anybody gives

DIGITS = st.text("0123456789", min_size=1, max_size=20)
ANY = st.text("abcs_-. 07\n\u00e9\u0661\u65e5\U0001f600", max_size=3)
WORDS = ("_", "c", "s", "f", "-1", "0000", "_c", "s1_", "_f", "morning", "noon", "afternoon", ".jpg", "others")
PIECES = st.one_of(st.sampled_from(WORDS), DIGITS, ANY)
# Half are made as the data sets make them, with numbers of any length, half of pieces in any order.
FORMS = (
    "{pid}_c{cam}s{a}_{b}_00{tail}",
    "{pid}_c{cam}_{a}{tail}",
    "{pid}_c{cam}_f{a}{tail}",
    "{pid}_{a}_{cam}_0303noon_{b}_0{tail}",
)
MADE = st.builds(
    lambda form, pid, cam, numbers, tail: form.format(pid=pid, cam=cam, a=numbers[0], b=numbers[1], tail=tail),
    st.sampled_from(FORMS),
    st.one_of(st.just("-1"), st.integers(0, 10**6).map(str), st.integers(0, 9999).map("{:04d}".format)),
    st.one_of(st.integers(0, 10**4).map(str), st.integers(0, 999).map("{:03d}".format)),
    st.tuples(DIGITS, DIGITS),
    st.one_of(st.just(""), ANY.map("_{}".format)),
)
NAMES = st.one_of(MADE, MADE, st.lists(PIECES, max_size=8).map("".join)).map("{}.jpg".format)


def any_name_ends_in_identity_and_camera_or_one_line(examples: int, tmp_path: Path) -> None:
    past = Counter[bool]()

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(NAMES)
    def check(name: str) -> None:
        try:
            kind = kind_of([tmp_path / name])
        except UserError as error:
            past[False] += 1
            line = printable(f"the name of {tmp_path / name} does not give identity and camera; rename it like")
            assert str(error).startswith(line)
            return
        past[True] += 1
        told = kind.read(name)
        assert told is not None
        pid, cam = told
        assert np.asarray([pid, cam], np.int64).tolist() == [pid, cam] and pid >= -1 and cam >= 0
        # an independent reading: the first number, and the number behind the first c, or the third number
        numbers = name.removeprefix("-").split("_")
        assert abs(pid) == int(numbers[0])
        camera = numbers[1].partition("c")[2].partition("s")[0].removesuffix(".jpg") or numbers[2]
        assert cam == int(camera)
        assert [names.of for names in KNOWN if names.read(name)] == [kind.of]

    check()
    assert past.total() >= examples and past[True] >= examples / 2


@pytest.mark.seconds
def test_any_name_ends_in_identity_and_camera_or_one_line(tmp_path: Path) -> None:
    any_name_ends_in_identity_and_camera_or_one_line(50, tmp_path)


@pytest.mark.slow
def test_any_of_many_names_ends_in_identity_and_camera_or_one_line(tmp_path: Path) -> None:
    any_name_ends_in_identity_and_camera_or_one_line(2_000, tmp_path)
