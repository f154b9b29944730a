"""Pictures are read ahead: the same ones, one load at most, never past the end, and a training does not wait."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from eval.data import Pixels
from methods.base import Batch, DataInfo, Method, Streams, Views
from repro.errors import Stopped, UserError
from repro.plan import recipes
from repro.stages import distributed, feeding
from repro.stages.feeding import Feeder
from repro.stages.pretrain import PretrainLoop

PICTURES, BATCH, EPOCHS = 30, 8, 3  # 3 loads an epoch, and 6 pictures over
CPU = torch.device("cpu")
Make = Callable[..., PretrainLoop]


def pixels() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (PICTURES, 3, 4, 4), dtype=np.uint8)


class Watched(Method):
    """Keeps the pictures that it is given; an update takes `seconds`."""

    negatives = "none"
    seconds = 0.0

    def __init__(self, recipe: Any, data: DataInfo) -> None:
        super().__init__(recipe, data)
        self.encoder = nn.Linear(3, 1)
        self.seen: list[tuple[Tensor, Tensor | None]] = []

    def steps(self, batch: Batch, rng: Streams) -> Iterator[Views]:
        self.seen.append((batch.images.clone(), batch.labels))
        yield Views({"x": batch.images.float().mean((2, 3)) / 255})

    def loss(self, views: Views) -> dict[str, Tensor]:
        time.sleep(self.seconds)
        return {"loss_x": self.encoder(views["x"]).square().mean()}


class Source:
    """Pictures as an array has them; each reading takes `seconds`, and the one numbered `bad` fails."""

    def __init__(self, seconds: float = 0.0, bad: int = -1) -> None:
        self.array, self.seconds, self.bad = pixels(), seconds, bad
        self.dtype, self.shape = self.array.dtype, self.array.shape
        self.began = 0
        self.threads: set[str] = set()

    def __len__(self) -> int:
        return len(self.array)

    def take(self, rows: npt.NDArray[np.int64], **where: Any) -> Any:
        self.began += 1
        self.threads.add(threading.current_thread().name)
        time.sleep(self.seconds)
        if self.began - 1 == self.bad:
            raise UserError("n01440764/x.JPEG: truncated")
        return self.array.take(rows, **where)


@pytest.fixture
def make(tmp_path: Path, shrunk: Callable[..., recipes.Recipe]) -> Make:
    """`make(images, labels, group, folder, **pretrain_keys)`: a loop of `Watched`."""

    number = itertools.count()

    def loop(
        images: Any,
        labels: Tensor | None = None,
        group: distributed.Group | None = None,
        folder: Path | None = None,
        **keys: Any,
    ) -> PretrainLoop:
        folder = folder or tmp_path / str(next(number))
        folder.mkdir(exist_ok=True)
        tables = shrunk("simsiam")
        tables["pretrain"] |= {"epochs": EPOCHS, "warmup_epochs": 0, "batch": BATCH, "accumulate": 1, **keys}
        return PretrainLoop(
            Watched(tables, DataInfo(4, (0.5,) * 3, (0.25,) * 3, 10)),
            images,
            labels,
            tables["pretrain"],
            seed=3,
            device=CPU,
            folder=folder,
            progress=lambda *_: None,
            group=group,
        )

    return loop


def seen(loop: PretrainLoop) -> list[tuple[Tensor, Tensor | None]]:
    assert isinstance(loop.method, Watched)
    return loop.method.seen


def expected(loop: PretrainLoop, micro: list[slice], first: int = 0) -> list[Tensor]:
    """The rows of each micro-batch, read off each epoch's order one by one, from that load on."""
    order = [loop._order(epoch) for epoch in range(EPOCHS)]
    loads = [(epoch, load) for epoch in range(EPOCHS) for load in range(PICTURES // BATCH)]
    return [order[e][n * BATCH : (n + 1) * BATCH][rows] for e, n in loads[first:] for rows in micro]


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pictures")]


RANK_1_OF_2 = [slice(2, 4), slice(6, 8)]


@pytest.mark.parametrize(
    ("accumulate", "rank", "micro"),
    [(1, 0, [slice(0, 8)]), (2, 0, [slice(0, 4), slice(4, 8)]), (2, 1, RANK_1_OF_2)],
    ids=["batch", "micro-batches", "rank 1 of 2"],
)
@pytest.mark.parametrize("kind", ["array", "map", "tensor"])
def test_each_load_holds_the_pictures_of_its_rows(
    make: Make, tmp_path: Path, kind: str, accumulate: int, rank: int, micro: list[slice]
) -> None:
    images: Any = pixels()
    if kind == "map":
        np.save(tmp_path / "pixels.npy", images)
        images = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    labels = torch.arange(PICTURES) % 7
    group = distributed.Group(rank, 2) if rank else None
    loop = make(torch.from_numpy(images) if kind == "tensor" else images, labels, group, accumulate=accumulate)
    rows = expected(loop, micro)
    found = [(batch.images, batch.labels) for load in loop.feeder.ahead(loop._left(_far(0, 0))) for batch in load]
    assert len(found) == len(rows) == 9 * accumulate
    for (got, numbers), wanted in zip(found, rows, strict=True):
        assert torch.equal(got, torch.from_numpy(pixels()[wanted.numpy()]))
        assert torch.equal(numbers, labels[wanted])


def _far(epoch: int, update: int) -> Any:
    """A training that is so far."""
    return type("Training", (), {"epoch": epoch, "update": update, "epochs": EPOCHS})


@pytest.mark.parametrize("done", [0, 2, 3, 7, 9])
def test_what_is_left_of_a_training_is_read(make: Make, done: int) -> None:
    """After `done` loads, of which the 3rd ends an epoch and the 9th the training."""
    source = Source()
    loop = make(source)
    rows = expected(loop, [slice(0, 8)], first=done)
    found = list(loop.feeder.ahead(loop._left(_far(done // 3, done % 3))))
    assert [load[0].images.tolist() for load in found] == [pixels()[wanted.numpy()].tolist() for wanted in rows]
    assert source.began == 9 - done


def test_at_the_end_of_an_epoch_a_checkpoint_may_say_so_either_way(make: Make) -> None:
    loop = make(pixels())
    ends, begins = (list(loop._left(_far(*far))) for far in ((0, 3), (1, 0)))
    assert [load[0].tolist() for load in ends] == [load[0].tolist() for load in begins] and len(ends) == 6


@pytest.mark.trains
def test_a_training_that_goes_on_reads_what_it_has_not_seen(make: Make) -> None:
    loop = make(pixels())
    rows = expected(loop, [slice(0, 8)])

    def stop(done: int, total: int, info: Mapping[str, Any]) -> None:
        if done == 4:
            signal.raise_signal(signal.SIGTERM)

    loop.progress = stop
    with pytest.raises(Stopped):
        loop.run()
    assert not reading_threads()
    again = make(pixels(), folder=loop.folder)
    again.run()
    found = [images for part in (loop, again) for images, _ in seen(part)]
    assert len(seen(again)) == 5
    for images, wanted in zip(found, rows, strict=True):
        assert torch.equal(images, torch.from_numpy(pixels()[wanted.numpy()]))


def test_one_load_is_read_ahead_and_none_past_the_end(make: Make) -> None:
    source = Source()
    loop = make(source)
    loads = loop.feeder.ahead(loop._left(_far(0, 0)))
    for taken, _ in enumerate(loads, 1):
        wait_for(lambda taken=taken: source.began == min(taken + 1, 9))
        time.sleep(0.01)
        assert source.began == min(taken + 1, 9)
    assert taken == 9 and not reading_threads()
    assert any(name.startswith("pictures") for name in source.threads)


def wait_for(holds: Callable[[], bool]) -> None:
    for _ in range(2000):
        if holds():
            return
        time.sleep(0.005)
    raise AssertionError("it never came about")


def test_who_stops_early_leaves_no_thread(make: Make) -> None:
    source = Source(seconds=0.05)
    loop = make(source)
    loads = loop.feeder.ahead(loop._left(_far(0, 0)))
    next(loads)
    assert reading_threads()
    loads.close()
    assert not reading_threads() and source.began == 2


@pytest.mark.trains
def test_what_goes_wrong_in_the_thread_ends_the_training_at_its_load(make: Make) -> None:
    loop = make(Source(bad=4))
    with pytest.raises(UserError, match=r"^n01440764/x.JPEG: truncated$"):
        loop.run()
    assert loop.updates == 4 and not reading_threads()


@pytest.mark.trains
def test_a_method_that_fails_leaves_no_thread(make: Make) -> None:
    loop = make(Source(seconds=0.02))
    loop.method.after_update = lambda *_: 1 // 0  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        loop.run()
    assert not reading_threads()


def test_all_pictures_are_brought_to_a_device_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "_BLOCK", 7 * 48)
    assert torch.equal(feeding.resident(pixels(), CPU), torch.from_numpy(pixels()))


# ---------------------------------------------------------------------------------------------------------------- time

UPDATE = 0.1


def _blocking(feeder: Feeder, loads: Iterator[feeding.Parts]) -> Iterator[list[Batch]]:
    """As it was: a load is read when it is needed."""
    yield from map(feeder.read, loads)


def _quotient(loop: PretrainLoop) -> float:
    """The time of a load over that of its update; of the quietest load, as others may use the machine."""
    loop.method.seconds = UPDATE  # type: ignore[assignment]
    update, updates = loop.update, []

    def timed(*given: Any) -> None:
        began = time.perf_counter()
        update(*given)
        updates.append(time.perf_counter() - began)

    loop.update = timed  # type: ignore[method-assign]
    ends = [time.perf_counter() for _ in loop.train()]
    return float(min(np.diff(ends) / updates[1:]))


@pytest.mark.trains
@pytest.mark.seconds
def test_a_training_does_not_wait_for_its_pictures(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a load takes half as long as an update; both sleep, so the machine's cores do not matter."""
    assert _quotient(make(Source(seconds=UPDATE / 2), epochs=5)) < 1.05
    monkeypatch.setattr(Feeder, "ahead", _blocking)
    assert _quotient(make(Source(seconds=UPDATE / 2), epochs=5)) > 1.2
