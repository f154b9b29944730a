"""Packs and caches: whole or absent, built once, checked, balanced."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from repro.data import cache, loading, packed, preparing, verifying
from repro.data.manifest import Tree, check, files, manifest, read_sums, write_sums
from repro.data.types import quiet
from repro.errors import UserError
from repro.settings import Where


def test_statistics_are_numpys() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3, 7, 9), dtype=np.uint8)
    mean, std = packed.statistics(pixels)
    assert mean == pytest.approx((pixels / 255).mean((0, 2, 3)), abs=6e-5)
    assert std == pytest.approx((pixels / 255).std((0, 2, 3)), abs=6e-5)


def test_balanced_where_classes_are_uneven() -> None:
    labels = np.repeat([0, 1, 2], [50, 5, 20])
    for seed in range(4):
        chosen = packed.balanced(labels, 75, 30, seed)
        assert np.bincount(labels[chosen]).tolist() == [13, 5, 12]  # all of the rare one, the rest shared out
        assert (np.diff(chosen) > 0).all()


def test_seeds_draw_independent_subsets() -> None:
    labels = np.repeat(np.arange(10), 500)
    drawn = [packed.balanced(labels, 5000, 500, seed) for seed in range(40)]
    assert all((packed.balanced(labels, 5000, 500, seed) == drawn[seed]).all() for seed in range(3))
    # Two of 500 of 5,000 share 50 by chance: in each of ten classes a hypergeometric number of variance 4.06.
    shared = [len(np.intersect1d(drawn[i], drawn[j])) for i in range(40) for j in range(i)]
    assert abs(np.mean(shared) - 50) < 4 * (40.6 / len(shared)) ** 0.5
    assert min(shared) > 0 and max(shared) < 90


def _slow(folder: Path) -> None:
    (folder / f"by-{multiprocessing.current_process().pid}").write_text("")
    time.sleep(0.3)


def _build(final: Path) -> None:
    cache.build(final, _slow)


@pytest.mark.processes
def test_many_builders_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_build, args=(tmp_path / "pack",)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(list((tmp_path / "pack").iterdir())) == 1
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.processes
def test_a_killed_builder_leaves_nothing_that_counts(tmp_path: Path) -> None:
    final = tmp_path / "pack"
    worker = multiprocessing.get_context("fork").Process(target=_build, args=(final,))
    worker.start()
    while not list(tmp_path.glob("pack.*.part/by-*")):
        time.sleep(0.01)
    worker.kill()
    worker.join()
    assert not final.exists() and list(tmp_path.glob("*.part"))
    _build(final)
    assert final.is_dir() and not list(tmp_path.glob("*.part"))


def test_a_failing_builder_cleans_up(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise UserError("bad image")

    with pytest.raises(UserError, match="bad image"):
        cache.build(tmp_path / "pack", fail)
    assert [p.name for p in tmp_path.iterdir()] == [".pack.lock"]


@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_a_pack_is_as_open_to_others_as_its_maker_wants(tmp_path: Path, umask: int) -> None:
    """A group that shares a workspace (umask 002) reads it and deletes it; tempfile's folders are nobody else's."""
    before = os.umask(umask)
    try:
        cache.build(tmp_path / "pack", lambda folder: (folder / "one.npy").touch())
    finally:
        os.umask(before)
    assert (tmp_path / "pack").stat().st_mode & 0o777 == 0o777 & ~umask


def test_an_unwritable_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the data cache"):
        preparing.prepare("digits", Where(None, tmp_path / "file" / "cache"), size=32)


def test_a_damaged_pack_is_named(tmp_path: Path) -> None:
    where = Where(None, tmp_path)
    folder = preparing.prepare("digits", where, size=32)
    with (folder / "test.npy").open("r+b") as handle:
        handle.seek(5_000)
        handle.write(b"\xff")
    assert f"{folder / 'test.npy'} has changed" in str(verifying.verify("digits", where).problem)
    (folder / "test.npy").write_bytes((folder / "test.npy").read_bytes()[:10_000])
    with pytest.raises(UserError, match=r"damaged pack file .*test\.npy"):
        loading.load_classification("digits", "test", where, size=32)


def test_other_sizes_are_resized(tmp_path: Path) -> None:
    digits = loading.load_classification("digits", "test", Where(None, tmp_path), size=16)
    assert digits.pixels.shape == (1_000, 3, 16, 16)
    large = loading.load_classification("digits", "test", Where(None, tmp_path), size=32)
    blocks = np.asarray(large.pixels, float).reshape(1_000, 3, 16, 2, 16, 2).mean((3, 5))
    assert np.abs(blocks - digits.pixels).mean() < 4


def test_manifest_follows_content_not_place_or_time(tmp_path: Path) -> None:
    trees = []
    for name in ("here", "there"):
        (tmp_path / name / "data" / "deep").mkdir(parents=True)
        (tmp_path / name / "data" / "deep" / "a.png").write_bytes(b"one")
        (tmp_path / name / "data" / "b.png").write_bytes(b"two")
        (tmp_path / name / "data" / ".hidden").write_bytes(b"junk")
        (tmp_path / name / "other.txt").write_bytes(b"not a part")
        trees.append(Tree(tmp_path / name, ("data",)))
    here, there = trees
    cache = tmp_path / "cache"
    assert files(here) == ["data/b.png", "data/deep/a.png"]
    first = manifest(here, cache)
    assert first == manifest(there, cache) == manifest(here, tmp_path / "cold")
    (tmp_path / "there" / "data" / "b.png").write_bytes(b"owt")  # as long as before
    assert manifest(there, cache) != first
    (tmp_path / "there" / "data" / "b.png").rename(tmp_path / "there" / "data" / "c.png")
    assert manifest(there, cache) != first


def test_huge_trees_are_known_by_their_folders(tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat" / "1.jpg").write_bytes(b"one")
    tree = Tree(tmp_path, ("train",), huge=True)
    first = manifest(tree, tmp_path / "cache")
    (tmp_path / "train" / "cat" / "2.jpg").write_bytes(b"two")
    second = manifest(tree, tmp_path / "cache")
    assert first != second == manifest(tree, tmp_path / "cold")


def test_check_names_the_first_file_that_is_wrong(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(name.encode())
    tree = Tree(tmp_path, ("a", "b", "c"))
    write_sums(tree, tmp_path / "SUMS")
    sums = read_sums(tmp_path / "SUMS")
    assert check(tree, sums, quiet) is None
    (tmp_path / "b").write_bytes(b"B")
    assert f"{tmp_path / 'b'} is not what it was" in str(check(tree, sums, quiet))
    (tmp_path / "b").unlink()
    assert f"{tmp_path / 'b'} is missing" in str(check(tree, sums, quiet))
    (tmp_path / "SUMS").write_text("nonsense\n")
    with pytest.raises(UserError, match="line 1, is not"):
        read_sums(tmp_path / "SUMS")
