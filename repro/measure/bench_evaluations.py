"""How fast the evaluations are here: `repro bench eval`.

Each row lets our call and one way to do the same without it take turns in one process, on the same generated features
(or results of a detector), so that a noisy machine is noisy for both. Libraries stand beside ours where they are
installed. Every call of a side does all of the work that the row names.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from eval import knn, linear_heads, protocols, reid
from eval.context import Context
from eval.data import Classification, Identified, Labelled
from eval.detection_metrics import coco_metrics
from eval.features import extract
from eval.protocols.knn import KnnProtocol
from eval.protocols.linear import LinearProtocol
from eval.protocols.reid import ReidProtocol
from methods.parts.encoders import build_encoder
from repro.errors import unknown
from repro.measure import timing
from repro.plan import recipes, registry
from repro.stages.context import device
from repro.terminal import text

Call = Callable[[], Any]
CLASSES = 10
K = 200
SIZES: Mapping[str, Mapping[str, Mapping[str, int]]] = {
    "small": {},
    # Those at which other libraries were measured.
    "peers": {
        "knn": {"train": 10_000, "test": 10_000, "dim": 512},
        "reid": {"queries": 1000, "gallery": 20_000},
        "coco": {"pictures": 2052, "objects": 7, "detections": 10},
    },
}
"""Arguments of the contests, by the name of the set of sizes; what is not named has its default."""


@dataclass(frozen=True)
class Rival:
    """Another way to do the same; `call` is None where the package is not installed."""

    name: str
    call: Call | None


@dataclass(frozen=True)
class Contest:
    """Our call and its rivals on one input."""

    name: str
    sizes: str
    ours: Call
    rivals: tuple[Rival, ...]


def table(seconds: float, sizes: str = "small") -> str:
    """The rows; seconds: of each side of each row, more where three calls of a side take longer. sizes: of SIZES."""
    if sizes not in SIZES:
        raise unknown("--sizes", sizes, SIZES)
    here, size = device(), SIZES[sizes]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        contests = [_linear(), _knn(**size.get("knn", {})), _reid(**size.get("reid", {}))]
        for contest in (*contests, _cache(Path(folder)), _coco(**size.get("coco", {}))):
            present = [rival for rival in contest.rivals if rival.call]
            calls = [contest.ours, *(rival.call for rival in present if rival.call)]
            ours, *others = timing.interleaved([_again(call) for call in calls], seconds, here)
            taken = dict(zip((rival.name for rival in present), others, strict=True))
            for rival in contest.rivals:
                row = [contest.name, contest.sizes, rival.name, f"{statistics.median(ours):.3f}"]
                if rival.call is None:
                    rows.append([*row, "-", "not installed"])
                    continue
                theirs = taken[rival.name]
                ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
                rows.append([*row, f"{statistics.median(theirs):.3f}", f"{ratio:.2f}"])
    head = ["evaluation", "sizes", "against", "ours, s", "theirs, s", "theirs / ours"]
    lines = [
        f"seconds a call, generated input, {timing.device_in_words()}; the last column above 1: ours is faster",
        "",
    ]
    lines.append(text.table(rows, head))
    if any(row[-1] == "not installed" for row in rows):
        lines.append("not installed: pip install '.[bench]' puts scikit-learn beside ours")
    return "\n".join(lines)


def _again(call: Call) -> Iterator[None]:
    while True:
        call()
        yield


def _features(generator: np.random.Generator, labels: npt.NDArray[np.int64], dim: int) -> npt.NDArray[np.float32]:
    """Noise around one centre a label, float32 [N, dim]: neither trivial nor hopeless to tell apart."""
    centres = generator.normal(size=(int(labels.max()) + 1, dim))
    return (0.3 * centres[labels] + generator.normal(size=(len(labels), dim))).astype(np.float32)


# ---------------------------------------------------------------------------------------------- linear


def _linear(pictures: int = 4000, dim: int = 128, epochs: int = 5) -> Contest:
    """A grid of learning rates, and scikit-learn's solver with as many strengths of regularisation."""
    protocol = protocols.load_as(LinearProtocol, "fast", {"epochs": epochs})
    generator = np.random.default_rng(0)
    labels = generator.integers(0, CLASSES, pictures)
    features = _features(generator, labels, dim)
    x, y = torch.from_numpy(features).to(device()), torch.from_numpy(labels).to(device())
    rates = protocol.learning_rates

    def heads(*chosen: float) -> None:
        for _ in linear_heads.train(x, y, CLASSES, [(rate, 0.0) for rate in chosen], protocol):
            pass

    def one_by_one() -> None:
        for rate in rates:
            heads(rate)

    def torch_loop() -> None:
        for rate in rates:
            head = nn.Linear(dim, CLASSES).to(x.device)
            optimizer = torch.optim.SGD(head.parameters(), lr=rate, momentum=protocol.momentum)
            updates = epochs * -(-pictures // protocol.batch)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
            for _ in range(epochs):
                for rows in torch.randperm(pictures).to(x.device).split(protocol.batch):
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(head(x[rows]), y[rows]).backward()
                    optimizer.step()
                    schedule.step()

    def logistic() -> None:
        from sklearn.linear_model import LogisticRegression

        for strength in np.logspace(-4, 1, len(rates)):
            LogisticRegression(C=strength, max_iter=1000).fit(features, labels)

    return Contest(
        f"linear, {len(rates)} learning rates",
        f"{pictures:,} x {dim}, {CLASSES} classes, {epochs} epochs",
        lambda: heads(*rates),
        (
            Rival("one rate at a time, same code", one_by_one),
            Rival("nn.Linear and torch.optim.SGD, likewise", torch_loop),
            Rival(f"scikit-learn LogisticRegression, {len(rates)} values of C", _with_sklearn(logistic)),
        ),
    )


# ---------------------------------------------------------------------------------------------- k-NN


def _knn(train: int = 5000, test: int = 1000, dim: int = 256) -> Contest:
    """All k of the protocol from one search; the others answer one k."""
    protocol = protocols.load_as(KnnProtocol, "fast")
    generator = np.random.default_rng(1)
    labels = generator.integers(0, CLASSES, train + test)
    features = _features(generator, labels, dim)
    train_x, test_x, train_y, test_y = features[:train], features[train:], labels[:train], labels[train:]

    def ours() -> None:
        ks = sorted(protocol.ks)
        knn.true_ranks(train_x, train_y, test_x, test_y, CLASSES, ks, protocol, device())

    def loop() -> None:
        bank = train_x / np.linalg.norm(train_x, axis=1, keepdims=True)
        for query in test_x:
            similarity = bank @ (query / np.linalg.norm(query))
            nearest = np.argsort(-similarity, kind="stable")[:K]
            votes = np.zeros(CLASSES)
            np.add.at(votes, train_y[nearest], np.exp(similarity[nearest].astype(float) / protocol.temperature))
            votes.argmax()

    def scikit_learn() -> None:
        from sklearn.neighbors import KNeighborsClassifier

        def weights(distances: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.exp((1 - distances) / protocol.temperature)

        peer = KNeighborsClassifier(K, metric="cosine", algorithm="brute", weights=weights)
        peer.fit(train_x, train_y).predict(test_x)

    return Contest(
        f"k-NN, {len(protocol.ks)} k up to {max(protocol.ks)}",
        f"{test:,} of {train:,}, x {dim}",
        ours,
        (
            Rival(f"a loop over the queries, k = {K}", loop),
            Rival(f"scikit-learn KNeighborsClassifier, k = {K}", _with_sklearn(scikit_learn)),
        ),
    )


# ---------------------------------------------------------------------------------------------- re-ID


def _reid(queries: int = 200, gallery: int = 20_000, dim: int = 128) -> Contest:
    protocol = protocols.load_as(ReidProtocol, "fast")
    generator = np.random.default_rng(2)
    pid, cam = generator.integers(0, gallery // 20, queries + gallery), generator.integers(0, 6, queries + gallery)
    x = _features(generator, pid, dim)
    query_x, query_pid, query_cam = x[:queries], pid[:queries], cam[:queries]
    gallery_x, gallery_pid, gallery_cam = x[queries:], pid[queries:], cam[queries:]

    def ours() -> float:
        given = Identified(query_x, query_pid, query_cam), Identified(gallery_x, gallery_pid, gallery_cam)
        metrics: dict[str, float] = reid.evaluate(*given, protocol, Context(device()))["metrics"]
        return metrics["mAP"]

    def judged(orders: Iterable[npt.NDArray[np.int64]]) -> float:
        """mAP in percent of the gallery's order for each query."""
        found = []
        for order, own, by in zip(orders, query_pid, query_cam, strict=True):
            order = order[(gallery_pid[order] != own) | (gallery_cam[order] != by)]
            hits = gallery_pid[order] == own
            precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
            if hits.any():
                found.append(precision[hits].mean())
        return float(100 * np.mean(found))

    def loop() -> float:
        bank = gallery_x / np.linalg.norm(gallery_x, axis=1, keepdims=True)
        return judged(np.argsort(-(bank @ (x / np.linalg.norm(x))), kind="stable") for x in query_x)

    def scikit_learn() -> float:
        from sklearn.neighbors import NearestNeighbors

        peer = NearestNeighbors(n_neighbors=gallery, metric="cosine", algorithm="brute").fit(gallery_x)
        return judged(peer.kneighbors(query_x, return_distance=False))

    return Contest(
        "re-ID, ranks, mAP, mINP",
        f"{queries:,} of {gallery:,}, x {dim}",
        ours,
        (
            Rival("the gallery sorted for each query", loop),
            Rival("scikit-learn NearestNeighbors, whole ranking", _with_sklearn(scikit_learn)),
        ),
    )


# ---------------------------------------------------------------------------------------------- the feature cache


def _cache(folder: Path, pictures: int = 256) -> Contest:
    """A second evaluation of an encoder, on the features that the first one left and without them."""
    recipe = recipes.resolve(*registry.find("random"), "mini", {})
    protocol = protocols.load_as(KnnProtocol, "mini", {"ks": [1, 5, 10, 20]})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = build_encoder(recipe["network"])
    generator = np.random.default_rng(3)
    size = recipe["network"]["size"]
    images = generator.integers(0, 256, (2, pictures, 3, size, size), dtype=np.uint8)
    labels = np.arange(pictures) % CLASSES

    def features(part: int) -> npt.NDArray[np.float32]:
        transform = protocol.transform()
        return extract(encoder, images[part], (0.5,) * 3, (0.25,) * 3, **transform, device=device())

    def judge(train: npt.NDArray[np.float32], test: npt.NDArray[np.float32]) -> None:
        data = Classification(Labelled(train, labels), Labelled(test, labels), CLASSES)
        knn.evaluate(data, protocol, Context(device()))

    files = [folder / "train.npy", folder / "test.npy"]
    for part, file in enumerate(files):
        np.save(file, features(part))
    return Contest(
        "k-NN on cached features",
        f"{2 * pictures:,} images of {size} px, ResNet-{recipe['network']['depth']}, {encoder.dim} wide",
        lambda: judge(*(np.load(file, mmap_mode="r") for file in files)),
        (Rival("features extracted anew", lambda: judge(features(0), features(1))),),
    )


# ---------------------------------------------------------------------------------------------- COCO


def _coco(pictures: int = 100, objects: int = 8, detections: int = 20) -> Contest:
    truth = generated_results(pictures, objects, detections)
    images, annotations, categories, results = truth

    def plain() -> None:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        coco = COCO()
        coco.dataset = {"images": images, "annotations": annotations, "categories": categories}
        coco.createIndex()
        for kind, key in (("bbox", "segmentation"), ("segm", "bbox")):
            own = [{name: value for name, value in result.items() if name != key} for result in results]
            judge = COCOeval(coco, coco.loadRes(own), kind)
            judge.evaluate()
            judge.accumulate()
            judge.summarize()

    return Contest(
        "COCO metrics, boxes and masks",
        f"{pictures} images, {len(annotations):,} objects, {len(results):,} detections",
        lambda: coco_metrics(images, annotations, categories, results),
        (Rival("pycocotools", plain),),
    )


def generated_results(
    pictures: int, objects: int, detections: int, categories: int = 20, size: tuple[int, int] = (480, 640)
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Ellipses as ground truth, moved, missed and invented ones as a detector's answers, in COCO's formats.

    Returns images, annotations, categories, results; `objects` and `detections` a picture, size: height and width in
    pixels. Some objects are crowds.
    """
    from pycocotools import mask as coding

    generator = np.random.default_rng(4)
    height, width = size
    rows, columns = np.mgrid[:height, :width]

    def entry(image: int, category: int, x: float, y: float, radius: float) -> dict[str, Any]:
        inside = ((columns - x) / radius) ** 2 + ((rows - y) / (0.7 * radius)) ** 2 <= 1
        code = coding.encode(np.asfortranarray(inside.astype(np.uint8)))
        return {
            "image_id": image,
            "category_id": category,
            "bbox": coding.toBbox(code).tolist(),
            "area": float(coding.area(code)),
            "segmentation": {"size": code["size"], "counts": code["counts"].decode("ascii")},
        }

    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(1, pictures + 1):
        places = generator.uniform((0, 0, 8), (width, height, 120), (objects, 3))
        kinds = generator.integers(1, categories + 1, objects)
        for place, kind in zip(places, kinds, strict=True):
            crowd = int(generator.random() < 0.02)
            shape = entry(image, int(kind), *place)
            annotations.append({**shape, "id": len(annotations) + 1, "iscrowd": crowd})
        for _ in range(detections):
            at = int(generator.integers(0, objects))
            near = places[at] * generator.normal(1, 0.08, 3)
            kind = kinds[at] if generator.random() < 0.7 else generator.integers(1, categories + 1)
            shape = entry(image, int(kind), *near)
            results.append({**shape, "score": float(generator.random())})
    images = [{"id": image, "height": height, "width": width} for image in range(1, pictures + 1)]
    return images, annotations, [{"id": c, "name": str(c)} for c in range(1, categories + 1)], results


def _with_sklearn(call: Call) -> Call | None:
    """The call, or None where scikit-learn is not installed."""
    with contextlib.suppress(ImportError, ValueError):
        return call if find_spec("sklearn") else None
    return None
