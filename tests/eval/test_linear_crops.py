"""Linear probes on random crops: the crops against Pillow and torchvision, the training against torch's own loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import v2 as T

from eval import augment, linear, linear_crops, linear_heads, protocols, schedules
from eval.context import Context
from eval.data import Classification, Normalisation
from eval.features import extract, middle, normalise, summary
from eval.invariants import check_invariants
from eval.protocols.linear import LinearProtocol

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
COLOURS = Normalisation(MEAN, STD)
PAPERS = ("glnet", "mncl", "triplet", "triplet_long", "swav_rot", "aps")


class Tiny(nn.Module):
    """Batch norm on board: its running statistics must neither change nor be passed over."""

    dim = 96

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 6, 5, 2), nn.BatchNorm2d(6)

    def features(self, x: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(self.norm(self.patches(x)).relu(), 4).flatten(1)


@pytest.fixture
def encoder(digits: list[np.ndarray]) -> Tiny:
    torch.manual_seed(0)
    made = Tiny()
    for _ in range(20):
        made.features(normalise(torch.from_numpy(digits[0][:256]), MEAN, STD))
    return made


@pytest.fixture(scope="module")
def digits() -> list[np.ndarray]:
    """Real handwritten digits, 1000 to train on and 400 to test on: uint8 [N, 3, 24, 24] and labels."""
    x, y = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    x = (x.reshape(-1, 1, 8, 8) * 15).astype(np.uint8).repeat(3, axis=1).repeat(3, axis=2).repeat(3, axis=3)
    return [x[:1000], y[:1000], x[1000:1400], y[1000:1400]]


def protocol(name: str = "glnet", **changes: object) -> LinearProtocol:
    return protocols.load_as(LinearProtocol, name, changes)


# ------------------------------------------------------------------------------------------------------------ the views


def photographs(n: int, height: int, width: int) -> Tensor:
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(20, 235, (n, 3, 6, 6))).float()
    fine = nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return (fine + torch.from_numpy(rng.normal(0, 6, fine.shape))).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize(("interpolation", "resample"), [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)])
def test_crops_are_pillows(interpolation: str, resample: int) -> None:
    x = photographs(12, 40, 56)
    ours = augment.resized_crop(x, (24, 24), interpolation, (0.08, 1.0), (3 / 4, 4 / 3), np.random.default_rng(3))
    where = augment.boxes(12, 40, 56, (0.08, 1.0), (3 / 4, 4 / 3), np.random.default_rng(3))
    for picture, (top, left, height, width), made in zip(x, where.tolist(), ours, strict=True):
        cut = Image.fromarray(picture.permute(1, 2, 0).numpy()).crop((left, top, left + width, top + height))
        peer = np.asarray(cut.resize((24, 24), resample)).astype(int)
        assert np.abs(made.permute(1, 2, 0).numpy().astype(int) - peer).max() <= 1


def test_boxes_are_spread_as_torchvisions() -> None:
    height, width, n = 40, 56, 4000
    ours = augment.boxes(n, height, width, (0.08, 1.0), (3 / 4, 4 / 3), np.random.default_rng(0)).astype(float)
    top, left, h, w = ours.T
    assert (top >= 0).all() and (left >= 0).all() and (top + h <= height).all() and (left + w <= width).all()
    torch.manual_seed(0)
    blank = torch.zeros(3, height, width)
    peer = np.array([RandomResizedCrop.get_params(blank, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(n)], float)
    for ours_of, peers in zip(
        (top, left, h, w, h * w, np.log(w / h)),
        (*peer.T, peer[:, 2] * peer[:, 3], np.log(peer[:, 3] / peer[:, 2])),
        strict=True,
    ):
        error = math.hypot(ours_of.std(), peers.std()) / math.sqrt(n)
        assert abs(ours_of.mean() - peers.mean()) < 4 * error
        assert abs(ours_of.std() / peers.std() - 1) < 0.1


@pytest.mark.parametrize("shape", [(10, 100), (100, 10), (32, 32)])
def test_where_no_box_fits_it_is_torchvisions_middle(shape: tuple[int, int]) -> None:
    peer = RandomResizedCrop.get_params(torch.zeros(3, *shape), [1.0, 1.0], [3 / 4, 3 / 4])
    found = augment.boxes(3, *shape, (1.0, 1.0), (3 / 4, 3 / 4), np.random.default_rng(0))
    assert found.tolist() == [list(peer)] * 3


@pytest.mark.parametrize(("side", "size", "to"), [(256, 224, 256), (32, 32, 36), (64, 224, 256)])
def test_test_pictures_are_resized_and_cut_in_the_middle(side: int, size: int, to: int) -> None:
    x = photographs(2, side, side)
    peer = T.Compose([T.Resize(to, antialias=True), T.CenterCrop(size)])(x)
    assert (middle(x, (size, size), 0.875).int() - peer.int()).abs().max() <= 1
    assert middle(x, (size, size), 0.875).shape[-2:] == (size, size)
    assert middle(x, (), 1.0) is x


# ------------------------------------------------------------------------------------------------------------ schedules


@pytest.mark.trains
def test_rates_of_papers() -> None:
    epochs, updates = 20, 4
    by_epoch = [0.5 * (1 + math.cos(math.pi * e / epochs)) for e in range(epochs) for _ in range(updates)]
    assert schedules.rates("epoch", 1.0, epochs, updates) == pytest.approx(by_epoch)
    late = [by_epoch[0]] * updates + by_epoch[:-updates]
    assert schedules.rates("epoch_late", 1.0, epochs, updates) == pytest.approx(late)
    steps = [10.0 ** -sum(e >= m for m in (6, 12)) for e in range(epochs) for _ in range(updates)]
    assert schedules.rates("steps", 1.0, epochs, updates, milestones=(6, 12)) == pytest.approx(steps)
    # mmcv: linear warm-up by iteration towards the annealed rate of the epoch, of which it begins as a small part
    warm = [
        rate * (1 - (1 - i / (5 * updates)) * (1 - 1e-4)) if i < 5 * updates else rate
        for i, rate in enumerate(by_epoch)
    ]
    ours = schedules.rates("epoch", 1.0, epochs, updates, warmup_epochs=5, warmup_lr=1e-4)
    assert ours == pytest.approx(warm, abs=2e-5)
    head = torch.nn.Linear(1, 1)
    sgd = torch.optim.SGD(head.parameters(), lr=1.0)
    peer = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, epochs * updates)
    for rate in schedules.rates("update", 1.0, epochs, updates):
        assert rate == pytest.approx(sgd.param_groups[0]["lr"], abs=1e-9)
        sgd.step()
        peer.step()


# ------------------------------------------------------------------------------------------------------------- training


def lars_step(
    value: Tensor, gradient: Tensor, speed: Tensor, rate: float, decay: float, trust: float, momentum: float
) -> None:
    """One parameter of one head, as the released code does it step by step."""
    size, steep = value.norm(), gradient.norm()
    if decay != 0:
        gradient = gradient + decay * value
        steep = steep + decay * size
    local = trust * size / (steep + 1e-8) if size != 0 and steep != 0 else 1.0
    speed.mul_(momentum).add_(gradient)
    value.add_(speed, alpha=-float(rate * local))


def test_lars_heads_equal_one_at_a_time() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(90, 12)).astype(np.float32))
    y = torch.from_numpy(rng.integers(0, 5, 90))
    p = protocol(
        "mncl", epochs=3, batch=32, holdout=0.2, learning_rates=[0.8, 8.0], weight_decays=[0.0, 0.05], trust=0.1
    )
    grid = [(rate, decay) for rate in p.learning_rates for decay in p.weight_decays]
    *_, (weight, bias) = linear_heads.train(x, y, 5, grid, p)
    for h, (rate, decay) in enumerate(grid):
        head = nn.Linear(12, 5)
        start = torch.randn(12, 5, generator=torch.Generator().manual_seed(p.seed)) * 0.01
        head.weight.data.copy_(start.T)
        head.bias.data.zero_()
        speeds = [torch.zeros_like(value) for value in (head.weight.data, head.bias.data)]
        for epoch in range(3):
            now = rate * 32 / 256 * 0.5 * (1 + math.cos(math.pi * epoch / 3))
            order = torch.from_numpy(np.random.default_rng([p.seed, epoch]).permutation(90))
            for rows in order.split(32):
                slopes = torch.autograd.grad(
                    nn.functional.cross_entropy(head(x[rows]), y[rows]), list(head.parameters())
                )
                for value, slope, speed in zip(head.parameters(), slopes, speeds, strict=True):
                    lars_step(value.data, slope, speed, now, decay, p.trust, p.momentum)
        torch.testing.assert_close(weight[:, :, h].T, head.weight.detach(), atol=1e-5, rtol=1e-3)
        torch.testing.assert_close(bias[:, h], head.bias.detach(), atol=1e-5, rtol=1e-3)


def test_where_the_gradient_is_zero_the_decay_sets_the_scale_of_lars() -> None:
    """A dead input gives the weight a gradient of exactly 0, a bias that is sure of the class gives the bias one."""
    p = protocol("mncl", weight_decays=[0.05, 0.0], holdout=0.2, batch=256)
    grid = [(rate, decay) for rate in p.learning_rates for decay in p.weight_decays]
    heads = linear_heads.Heads(6, 3, grid, p, "cpu")
    heads.bias.view(3, len(grid)).copy_(torch.tensor([200.0, -100.0, -100.0])[:, None])
    expected = [(w.clone(), torch.zeros_like(w)) for w in heads.result()]
    for factor in (1.0, 0.7):
        heads.step(torch.zeros(4, 6), torch.zeros(4, dtype=torch.int64), factor)
        for h, (rate, decay) in enumerate(grid):
            for values, speeds in expected:
                value, speed = values[..., h], speeds[..., h]
                lars_step(value, torch.zeros_like(value), speed, rate * factor, decay, p.trust, p.momentum)
    weight, bias = heads.result()
    torch.testing.assert_close(weight, expected[0][0])
    torch.testing.assert_close(bias, expected[1][0])
    assert (weight[..., 0] != weight[..., 1]).all()  # a head without decay stays where it is

    # One update moves a decayed weight by trust * rate of its length, not by decay * rate: 50 times as far.
    fresh = linear_heads.Heads(6, 3, grid, p, "cpu")
    before = fresh.result()[0].clone()
    fresh.step(torch.zeros(4, 6), torch.zeros(4, dtype=torch.int64), 1.0)
    moved = (fresh.result()[0] - before)[..., 0].norm() / before[..., 0].norm()
    assert float(moved) == pytest.approx(p.trust * p.learning_rates[0], rel=1e-3)


@pytest.mark.trains
def test_probe_is_the_papers_loop(
    encoder: Tiny, digits: list[np.ndarray], labelled: Callable[..., Classification[Any]]
) -> None:
    """Crops, flips, encoder frozen in eval mode, torch's SGD, a warm-up, cosine by epoch, every epoch tested."""
    train, train_y, test, test_y = digits
    p = protocol("triplet", epochs=4, warmup_epochs=2, batch=96, learning_rates=[3.0], size=[20, 20])
    result = linear_crops.probe(encoder, labelled(train, train_y, test, test_y, 10), COLOURS, p)

    encoder.eval()
    head = nn.Linear(96, 10)
    head.weight.data.copy_((torch.randn(96, 10, generator=torch.Generator().manual_seed(0)) * 0.01).T)
    head.bias.data.zero_()
    sgd = torch.optim.SGD(head.parameters(), lr=0.0, momentum=0.9)
    shown = normalise(T.CenterCrop(20)(T.Resize(22, antialias=True)(torch.from_numpy(test))), MEAN, STD)
    seen = []
    for epoch in range(4):
        order = np.random.default_rng([0, epoch]).permutation(1000)
        for update, start in enumerate(range(0, 1000, 96)):
            rows = order[start : start + 96]
            rng = np.random.default_rng([0, epoch, update, 1])
            x = torch.from_numpy(train[rows])
            x = augment.resized_crop(x, (20, 20), "bilinear", (0.08, 1.0), (3 / 4, 4 / 3), rng)
            x = normalise(augment.mirror(x, rng), MEAN, STD)
            clock = epoch + update / 11
            rate = 3.0 * 96 / 256 * 0.5 * (1 + math.cos(math.pi * epoch / 4))
            sgd.param_groups[0]["lr"] = 1e-4 + (rate - 1e-4) * clock / 2 if clock < 2 else rate
            loss = nn.functional.cross_entropy(head(encoder.features(x).detach()), torch.from_numpy(train_y[rows]))
            sgd.zero_grad()
            loss.backward()
            sgd.step()
        with torch.no_grad():
            seen.append(100 * float((head(encoder.features(shown)).argmax(1).numpy() == test_y).mean()))
    assert seen[-1] > 30  # learns: chance is 10
    # One of 400 test pictures on the border between two classes is 0.25.
    assert result["metrics"]["top1"] == pytest.approx(seen[-1], abs=0.5)
    assert result["metrics"]["top1_best_on_test"] == pytest.approx(max(seen), abs=0.5)
    assert check_invariants(result["metrics"], "linear", 2, p.values()) == []
    with torch.no_grad():
        known = summary(encoder.features(shown).numpy())
    assert {key: result["metrics"][f"test_{key}"] for key in known} == pytest.approx(known, rel=1e-3)


def whole_pictures(**changes: object) -> LinearProtocol:
    """A paper's loop whose only crop is the whole picture."""
    whole: dict[str, object] = {"crop_scale": [1.0, 1.0], "crop_ratio": [1.0, 1.0], "hflip": False, "test_crop": 1.0}
    return protocol("glnet", **{**whole, **changes})


@pytest.mark.trains
def test_without_augmentation_it_is_the_cached_path(
    encoder: Tiny, digits: list[np.ndarray], labelled: Callable[..., Classification[Any]]
) -> None:
    """The same pictures in the same order through the same heads: all that may differ is rounding in the encoder, whose
    batches are others. That moves a logit by about 1e-6 and so hardly ever a picture: one of 400 is allowed (0.25)."""
    train, train_y, test, test_y = digits
    grid = {"learning_rates": [0.1, 3.0, 30.0], "epochs": 6, "holdout": 0.2, "batch": 100, "size": []}
    direct = linear_crops.probe(encoder, labelled(train, train_y, test, test_y, 10), COLOURS, whole_pictures(**grid))
    features = [extract(encoder, pictures, MEAN, STD) for pictures in (train, test)]
    no_crops = {"crop_scale": [], "hflip": False, "test_crop": 1.0}
    cached = linear.evaluate(
        labelled(features[0], train_y, features[1], test_y, 10), protocol("glnet", **{**grid, **no_crops})
    )
    assert direct["details"]["learning_rate"] == cached["details"]["learning_rate"]
    for key in ("top1", "top5", "top1_selected", "top1_best_on_test"):
        assert direct["metrics"][key] == pytest.approx(cached["metrics"][key], abs=0.26), key
    ours, theirs = (np.array(r["details"]["test_top1_last_epoch"]) for r in (direct, cached))
    assert np.abs(ours - theirs).max() <= 0.26
    assert cached["metrics"]["top1"] > 50


@pytest.mark.trains
def test_the_paper_loop_reaches_logistic_regression(
    encoder: Tiny, digits: list[np.ndarray], labelled: Callable[..., Classification[Any]]
) -> None:
    """With a decay of 1 / (C N) it is scikit-learn's own objective, which is convex: there is one answer to find.

    A rate that falls to 0 leaves next to no noise of the batches: two of 400 test pictures (0.5) are allowed."""
    peer = pytest.importorskip("sklearn.linear_model")
    train, train_y, test, test_y = digits
    p = whole_pictures(learning_rates=[1.0], weight_decays=[0.01], epochs=25, batch=100, base_batch=100, size=[])
    result = linear_crops.probe(encoder, labelled(train, train_y, test, test_y, 10), COLOURS, p)
    train_x, test_x = (extract(encoder, pictures, MEAN, STD) for pictures in (train, test))
    best = peer.LogisticRegression(C=0.1, max_iter=1000).fit(train_x, train_y).score(test_x, test_y)
    assert 60 < 100 * best < 97  # neither trivial nor hopeless
    assert result["metrics"]["top1"] == pytest.approx(100 * best, abs=0.51)


def test_the_encoder_stays_as_it_was(
    encoder: Tiny, digits: list[np.ndarray], labelled: Callable[..., Classification[Any]]
) -> None:
    encoder.train()
    encoder.patches.eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    state = torch.get_rng_state()
    p = protocol(epochs=1, batch=256, size=[20, 20])
    seen: list[tuple[int, int]] = []
    linear_crops.probe(
        encoder,
        labelled(*digits, 10),
        COLOURS,
        p,
        Context(progress=lambda done, total, info: seen.append((done, total))),
    )
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert encoder.training and encoder.norm.training and not encoder.patches.training
    assert torch.equal(torch.get_rng_state(), state)
    assert seen == [(i + 1, 4) for i in range(4)]


@pytest.mark.trains
@pytest.mark.parametrize(
    ("at", "every", "said"),
    [
        (2, 1, "resumed after update 1 of epoch 1 (split)"),
        (4, 1, "resumed after update 1 of epoch 2 (split)"),
        (5, 1, "resumed after epoch 2 (split)"),
        (7, 1, "resumed after epoch 2 (split), update 2 of epoch 1 (all)"),
        (10, 5, "resumed after epoch 2 (split), update 1 of epoch 2 (all)"),
        (12, 1, "resumed after epoch 2 (split), epoch 2 (all)"),
    ],
)
def test_interrupted_anywhere_is_uninterrupted(
    at: int,
    every: int,
    said: str,
    encoder: Tiny,
    digits: list[np.ndarray],
    labelled: Callable[..., Classification[Any]],
    interrupted: Callable[..., Any],
) -> None:
    """Two trainings (for the split, and on all) of two epochs each; killed within epochs and at their ends."""
    p = protocol(epochs=2, batch=400, size=[20, 20], holdout=0.2, learning_rates=[0.3, 3.0], optimizer="lars")

    def run(**more: Any) -> dict[str, Any]:
        return linear_crops.probe(encoder, labelled(*digits, 10), COLOURS, p, Context(**more))

    found, _, store = interrupted(run, at, 2 * 2 + 2 * 3, every)
    assert found == said and list(store.kept) == [linear_crops.CHECKPOINT]


def test_what_another_probe_kept_is_not_taken_up(
    encoder: Tiny, digits: list[np.ndarray], memory: Callable[..., Any], labelled: Callable[..., Classification[Any]]
) -> None:
    p, store = protocol(epochs=1, batch=500, size=[20, 20]), memory()
    linear_crops.probe(encoder, labelled(*digits, 10), COLOURS, p, Context(store=store))
    torch.nn.init.normal_(encoder.patches.weight)
    other = linear_crops.probe(encoder, labelled(*digits, 10), COLOURS, p, Context(store=store))
    assert other["details"].pop("resumed") == "started afresh: linear.pt is from another linear probe"
    plain = linear_crops.probe(encoder, labelled(*digits, 10), COLOURS, p)
    assert plain["details"].pop("resumed") == "" and other == plain


# ------------------------------------------------------------------------------------------------- protocols and shares


@pytest.mark.parametrize("name", PAPERS)
def test_papers_protocols_are_the_sheets(name: str) -> None:
    rate, epochs, optimizer, schedule = {
        "glnet": (0.1, 100, "sgd", "epoch"),
        "mncl": (0.8, 90, "lars", "epoch"),
        "triplet": (0.15, 100, "sgd", "epoch"),
        "triplet_long": (0.04, 100, "sgd", "epoch"),
        "swav_rot": (0.3, 25, "sgd", "epoch"),
        "aps": (0.02, 100, "sgd", "epoch_late"),
    }[name]
    p = protocol(name)
    assert (p.learning_rates, p.epochs, p.optimizer, p.schedule) == ((rate,), epochs, optimizer, schedule)
    assert (p.momentum, p.batch, p.base_batch, p.init_std) == (0.9, 256, 256, 0.01)
    assert p.weight_decays == ((1e-6,) if name == "swav_rot" else (0.0,))
    assert p.warmup_epochs == (10 if name.startswith("triplet") else 0)
    assert p.augmented and p.hflip and p.crop_scale == (0.08, 1.0) and p.crop_ratio == (3 / 4, 4 / 3)
    assert p.holdout == 0 and p.normalise == "none" and p.test_crop * 256 == 224


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"holdout": 0.0, "learning_rates": [0.1, 0.2]}, "one value each if holdout is 0"),
        ({"crop_scale": [0.5]}, "crop_scale must be [] or [smallest, largest]"),
        ({"crop_scale": []}, "hflip must be false without crop_scale"),
        ({"normalise": "standardise"}, "normalise must be 'none' if crop_scale is given"),
        ({"low_shot": [10]}, "low_shot, low_shot_shares must be [] if crop_scale is given"),
        ({"schedule": "steps"}, "milestones must be given with 'steps'"),
        ({"warmup_epochs": 100}, "warmup_epochs must be fewer than the epochs"),
        ({"schedule": "epochs"}, "did you mean 'epoch'?"),
    ],
)
def test_refusals(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError) as refusal:
        protocol("glnet", **changes)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_shares_of_the_labels(digits: list[np.ndarray], labelled: Callable[..., Classification[Any]]) -> None:
    rng = np.random.default_rng(0)
    train_y, test_y = np.arange(1500) % 6, np.arange(600) % 6
    centres = rng.normal(size=(6, 16)) * 0.7
    train_x, test_x = ((centres[y] + rng.normal(size=(len(y), 16))).astype(np.float32) for y in (train_y, test_y))
    p = protocol("fast", epochs=1, low_shot=[], low_shot_shares=[0.003, 0.01, 0.1])
    result = linear.evaluate(labelled(train_x, train_y, test_x, test_y, 6), p)
    metrics, low_shot = result["metrics"], result["details"]["low_shot"]
    assert [run["labels"] for run in low_shot["1pct"]] == [15] * 5
    assert [run["labels"] for run in low_shot["10pct"]] == [150] * 5
    assert metrics["top1_10pct"] == pytest.approx(np.mean([run["top1"] for run in low_shot["10pct"]]))
    assert metrics["top1_10pct"] > metrics["top1_1pct"] + 1
    assert "top1_0.3pct" not in metrics and low_shot["0.3pct"] == "a class would get no image"
    assert check_invariants(metrics) == []
