"""Linear classification of frozen features: every learning rate and weight decay at once, chosen on a training split.

All heads see the same pictures in the same order, so H heads of C classes are one matrix product with C * H columns,
and the gradient of the softmax loss is written down instead of traced:

    z = x W + b,    dL/dz = (softmax(z) - onehot(y)) / B,    v <- m v + (x' dL/dz + wd W),    W <- W - lr v

which is torch.optim.SGD on nn.Linear(D, C), H times, without decay of the bias. The grid is trained twice: on the fit
part of the training features, to choose rate and decay on the held-out part, then on all of them, where the choice is
read off after the last epoch (`top1`). An epoch chosen on the split as well is recorded (`top1_selected`) but not the
result: a moment of luck in one training is none in the next, which cost up to five points on weak features. What an
author who looks at the test set would report stands beside it (`top1_best_on_test`).

`evaluate` trains on features that were extracted once, `probe` as papers do it: every update sees new crops of its
pictures, through the frozen encoder in eval mode. Both are the same loop over the same heads; a paper's protocol is a
grid of one rate and one decay, with nothing held out, trained once. Differs from the papers' codes: crops are cut from
pictures as the track stores them (ImageNet: decoded to 256 x 256 once); mean and deviation are those of pre-training.

Low-shot: ridge regression to one-hot targets with few labels a class, its strength chosen by the exact leave-one-out
error on those labels alone; the mean over fixed splits. Its accuracy on held-out training pictures (`split_top1` in the
details) is what the tuning of a recipe looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval import augment
from eval.context import Progress, Store, part_of, quiet
from eval.features import autocast, check_finite, evaluating, extract, normalise, summary, to_tensor
from eval.protocols import LinearProtocol, transform, values
from eval.schedules import rates
from eval.scores import check_labelled, pack, percent, standard_error, true_rank
from eval.splits import holdout, per_class, shares
from eval.training import Checkpoint, Training, identity

CHECKPOINT = "linear.pt"

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Feed = Callable[[npt.NDArray[np.int64], int, int], Tensor]
"""(rows, epoch, update) -> the features of these training pictures in that update, float32 [len(rows), D]."""


def evaluate(
    train_x: npt.NDArray[np.float32],
    train_y: npt.NDArray[np.int64],
    test_x: npt.NDArray[np.float32],
    test_y: npt.NDArray[np.int64],
    classes: int,
    protocol: LinearProtocol,
    *,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Linear and low-shot accuracy of features.

    x: float32 [N, D]; y: int64 [N] in [0, classes). Metrics in percent: top1 (and top5 above five classes) after the
    last epoch, with the rate and decay that were best on the split after theirs; top1_selected, of the rate, decay and
    epoch that were best there; top1_best_on_test, over the whole grid and all epochs; optimism = best_on_test - top1;
    top1_10_per_class, top1_1pct and their like. ValueError for features or labels that cannot be judged.
    """
    for x, y, what in ((train_x, train_y, "training features"), (test_x, test_y, "test features")):
        check_labelled(x, y, classes, what)
        check_finite(x)
    train, test = (to_tensor(x).to(device) for x in normalised(train_x, test_x, protocol.normalise))
    train_labels, test_labels = (to_tensor(y).to(device) for y in (train_y, test_y))
    result = _judge(lambda rows, *_: train[rows], train.__getitem__, train_y, test, test_y, classes, protocol, progress)
    metrics, details = result["metrics"], result["details"]
    probes = {f"{count}_per_class": per_class(train_y, count, *_splits(protocol)) for count in protocol.low_shot}
    probes |= {f"{share * 100:g}pct": shares(train_y, share, *_splits(protocol)) for share in protocol.low_shot_shares}
    details["low_shot"] = {}
    held = holdout(train_y, protocol.holdout, protocol.seed)[1] if protocol.holdout else np.arange(0)
    for name, found in probes.items():
        runs = []
        for rows in found:
            weight, bias, strength = ridge(train[rows], train_labels[rows], classes, protocol.ridge)
            run = {"ridge": strength, "labels": len(rows)}
            run["top1"] = percent(head_ranks(test, test_labels, weight, bias) == 0)
            if len(unseen := np.setdiff1d(held, rows)):
                run["split_top1"] = percent(head_ranks(train[unseen], train_labels[unseen], weight, bias) == 0)
            runs.append(run)
        if runs:
            metrics[f"top1_{name}"] = float(np.mean([run["top1"] for run in runs]))
        few = name.removesuffix("_per_class")
        reason = f"a class has fewer than {few} training pictures" if few != name else "a class would get no picture"
        details["low_shot"][name] = runs or reason
    return result


def probe(
    encoder: nn.Module,
    train_images: Pixels | Tensor,
    train_y: Labels,
    test_images: Pixels | Tensor,
    test_y: Labels,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    protocol: LinearProtocol,
    *,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    store: Store | None = None,
) -> dict[str, Any]:
    """Linear accuracy of an encoder, trained on random crops of the pictures.

    Metrics are those of `evaluate` but for low-shot, and of the test pictures those of features.summary.

    encoder: as features.extract takes it, and moved to `device`; images: uint8 [N, 3, H, W]; y: int64 [N] in
    [0, classes). store: where the heads are kept, and taken up again if they are this very run's; details["resumed"]
    says so, or why not. ValueError for labels that do not fit, and for features that are not finite.
    """
    device = torch.device(device)
    for images, y, what in ((train_images, train_y, "training pictures"), (test_images, test_y, "test pictures")):
        check_labelled(images, y, classes, what)
    started = [values(protocol), list(mean), list(std)]
    checkpoint = Checkpoint(store, CHECKPOINT, identity(started, encoder, train_images, train_y), "linear probe")
    encoder.to(device)
    whole = {**transform(protocol), "device": device}
    seen = extract(encoder, test_images, mean, std, **whole)
    test = torch.from_numpy(seen).to(device)

    def plain(rows: npt.NDArray[np.int64]) -> Tensor:
        parts = np.array_split(rows, range(4096, len(rows), 4096))  # all at once might not fit into memory
        found = [extract(encoder, train_images[part], mean, std, **whole) for part in parts]
        return torch.from_numpy(np.concatenate(found)).to(device)

    def crops(rows: npt.NDArray[np.int64], epoch: int, update: int) -> Tensor:
        rng = np.random.default_rng([protocol.seed, epoch, update, 1])
        x = to_tensor(train_images[rows]).to(device)
        size = protocol.size or x.shape[-2:]
        x = augment.resized_crop(x, size, protocol.interpolation, protocol.crop_scale, protocol.crop_ratio, rng)
        if protocol.hflip:
            x = augment.mirror(x, rng)
        with autocast(device, protocol.precision):
            return encoder.features(normalise(x, mean, std)).float()  # type: ignore[operator]

    with evaluating(encoder), torch.no_grad():
        result = _judge(crops, plain, train_y, test, test_y, classes, protocol, progress, checkpoint)
    result["metrics"] |= {f"test_{key}": value for key, value in summary(seen).items()}
    result["details"]["resumed"] = checkpoint.note
    return result


def _judge(
    feed: Feed,
    plain: Callable[[npt.NDArray[np.int64]], Tensor],
    train_y: Labels,
    test: Tensor,
    test_y: Labels,
    classes: int,
    protocol: LinearProtocol,
    progress: Progress | None,
    checkpoint: Checkpoint | None = None,
) -> dict[str, Any]:
    """Train the grid and judge it.

    feed: features to train on; plain: those of whole training pictures, asked for the held-out ones; test: float32
    [N, D].
    """
    labels, test_labels = (torch.from_numpy(np.array(y)).to(test.device) for y in (train_y, test_y))
    grid = [(rate, decay) for rate in protocol.learning_rates for decay in protocol.weight_decays]
    fit, held = np.arange(len(train_y)), np.arange(0)
    if protocol.holdout:
        fit, held = holdout(train_y, protocol.holdout, protocol.seed)
    work = [protocol.epochs * _updates(n, protocol) for n in (len(fit) if len(held) else 0, len(labels)) if n]

    def train(
        part: str, rows: npt.NDArray[np.int64], x: Tensor, y: Tensor
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """(accuracies [epochs, H], ranks [N, H] after the last) on x, y of heads trained on those rows."""
        trained = Heads(test.shape[1], classes, grid, protocol, test.device)
        training = Training(
            {"heads": trained},
            protocol.epochs,
            _updates(len(rows), protocol),
            checkpoint=checkpoint,
            name=part,
            progress=part_of(progress or quiet, sum(work[:-1]) if part == "all" else 0, sum(work)),
        )
        turns = heads(
            lambda chosen, *clock: feed(rows[chosen], *clock),
            labels[rows],
            classes,
            grid,
            protocol,
            trained=trained,
            training=training,
        )
        with training:
            for weight, bias in turns:
                training.history.append((100 * (head_ranks(x, y, weight, bias) == 0).mean(axis=0)).tolist())
        return np.array(training.history), head_ranks(x, y, *trained.result())

    chosen = selected = 0
    selected_epoch = protocol.epochs - 1
    on_split = np.full((protocol.epochs, len(grid)), np.nan)
    if len(held):
        on_split, _ = train("split", fit, plain(held), labels[held])
        chosen = int(on_split[-1].argmax())  # of equals the first of the grid
        backwards, selected = divmod(int(on_split[::-1].argmax()), len(grid))  # of equals the longest training
        selected_epoch = protocol.epochs - 1 - backwards
    on_test, all_ranks = train("all", np.arange(len(labels)), test, test_labels)
    ranks = all_ranks[:, chosen]

    top1 = percent(ranks == 0)
    rate, decay = grid[chosen]
    metrics = {"top1": top1, "top1_best_on_test": float(on_test.max()), "optimism": float(on_test.max()) - top1}
    details: dict[str, Any] = {
        "learning_rate": rate,
        "weight_decay": decay,
        "grid": [list(pair) for pair in grid],
        "test_top1_last_epoch": on_test[-1].round(3).tolist(),
        "best_on_test_epoch": int(on_test.max(axis=1).argmax()) + 1,
        "n_train": len(labels),
        "n_split": len(held),
        "n_test": len(test),
        "standard_error": standard_error(top1, len(test)),
        "correct": pack(ranks == 0),
    }
    if len(held):
        metrics["top1_selected"] = float(on_test[selected_epoch, selected])
        details["selected"] = [*grid[selected], selected_epoch + 1]
        details["rate_at_edge"] = rate in (min(protocol.learning_rates), max(protocol.learning_rates))
        details["split_top1_last_epoch"] = on_split[-1].round(3).tolist()
    if classes > 5:
        metrics["top5"] = percent(ranks < 5)
    return {"metrics": metrics, "artifacts": {}, "details": details}


def _splits(protocol: LinearProtocol) -> tuple[int, int]:
    return protocol.low_shot_splits, protocol.seed


def normalised(
    train: npt.NDArray[np.float32], test: npt.NDArray[np.float32], how: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Both sets; "l2": of unit length; "standardise": by mean and deviation of the training columns; "none": as is.

    A column without variance becomes 0.
    """
    if how == "none":
        return train, test
    if how == "l2":
        return tuple(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (train, test))
    mean = train.mean(axis=0, dtype=np.float64)
    std = train.std(axis=0, dtype=np.float64)
    flat = std <= 1e-6 * np.maximum(np.abs(mean), 1e-30)  # what rounding alone leaves of a constant column
    scale = np.where(flat, 0, 1 / np.where(flat, 1, std))
    return tuple(((x - mean) * scale).astype(np.float32) for x in (train, test))


class Heads:
    """H linear heads of C classes on D features, one for every (learning rate, weight decay) of the grid.

    sgd: see the head of this module. lars: LARS as Fast-MoCo's and the multi-network method's code have it, applied to
    weight and bias of every head alone: with g the gradient of the loss, w <- w - lr s v, where v <- m v + g + wd w and
    s = trust |w| / (|g| + wd |w| + 1e-8), or 1 where |w| or |g| is 0. The scale is outside of the momentum, unlike in
    the LARS of other codes (and of mmpretrain).
    """

    def __init__(
        self, width: int, classes: int, grid: Sequence[tuple[float, float]], protocol: LinearProtocol, device: Any
    ) -> None:
        self.shape, self.protocol = (width, classes, len(grid)), protocol
        self.rate = torch.tensor([rate for rate, _ in grid], device=device).repeat(classes)
        self.rate *= protocol.batch / protocol.base_batch
        self.decay = torch.tensor([decay for _, decay in grid], device=device).repeat(classes)
        start = torch.randn(width, classes, generator=torch.Generator().manual_seed(protocol.seed)) * protocol.init_std
        self.weight = start.repeat_interleave(len(grid), dim=1).to(device)
        self.bias = torch.zeros(classes * len(grid), device=device)
        self.weight_speed, self.bias_speed = torch.zeros_like(self.weight), torch.zeros_like(self.bias)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and momentum, the tensors that are trained on."""
        return {name: value for name, value in vars(self).items() if name.endswith(("weight", "bias", "speed"))}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state_dict()`."""
        for name, value in self.state_dict().items():
            value.copy_(state[name])

    def result(self) -> tuple[Tensor, Tensor]:
        """Weight [D, C, H] and bias [C, H], views."""
        return self.weight.view(self.shape), self.bias.view(self.shape[1:])

    def step(self, x: Tensor, y: Tensor, factor: float) -> None:
        """One update at `factor` of the rates.  x: float32 [B, D]; y: int64 [B]."""
        _, classes, count = self.shape
        # Classes in the middle: a softmax over ten numbers side by side is four times slower than over a stride.
        slope = torch.addmm(self.bias, x, self.weight).view(len(x), classes, count).softmax(1)
        slope[torch.arange(len(x), device=x.device), y] -= 1
        flat = slope.view(len(x), -1) / len(x)
        rate = self.rate * factor
        if self.protocol.optimizer == "sgd":
            self.weight_speed.mul_(self.protocol.momentum).addmm_(x.T, flat).addcmul_(self.weight, self.decay)
            self.bias_speed.mul_(self.protocol.momentum).add_(flat.sum(0))
            self.weight.addcmul_(self.weight_speed, rate, value=-1)
            self.bias.addcmul_(self.bias_speed, rate, value=-1)
            return
        sides = (
            (self.weight, x.T @ flat, self.weight_speed),
            (self.bias[None], flat.sum(0)[None], self.bias_speed[None]),
        )
        for value, gradient, speed in sides:
            size, steep = (
                v.view(-1, classes, count).square().sum((0, 1)).sqrt().repeat(classes) for v in (value, gradient)
            )
            scale = self.protocol.trust * size / (steep + self.decay * size + 1e-8)
            scale = torch.where((size > 0) & (steep > 0), scale, 1.0)
            speed.mul_(self.protocol.momentum).add_(gradient).addcmul_(value, self.decay)
            value.addcmul_(speed, rate * scale, value=-1)


def heads(
    x: Tensor | Feed,
    y: Tensor,
    classes: int,
    grid: Sequence[tuple[float, float]],
    protocol: LinearProtocol,
    *,
    trained: Heads | None = None,
    training: Training | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Train a head for every (learning rate, weight decay) of the grid; after each epoch weight [D, C, H], bias [C, H].

    x: float32 [N, D], or what gives a batch of it; y: int64 [N]. The tensors handed out are the ones that are trained
    on: copy what is to be kept. trained, training: go on with these heads from where that training is.
    """
    if isinstance(x, Tensor):
        table, trained = x, trained or Heads(x.shape[1], classes, grid, protocol, x.device)
        x = lambda rows, *_: table[rows]  # noqa: E731
    assert trained is not None
    n = len(y)
    updates = _updates(n, protocol)
    training = training or Training({"heads": trained}, protocol.epochs, updates)
    factors = rates(
        protocol.schedule,
        1.0,
        protocol.epochs,
        updates,
        warmup_epochs=protocol.warmup_epochs,
        warmup_lr=protocol.warmup_factor,
        milestones=protocol.milestones,
    )
    for epoch in training.each_epoch():
        order = np.random.default_rng([protocol.seed, epoch]).permutation(n)
        for update in training.each_update():
            rows = order[update * protocol.batch : (update + 1) * protocol.batch]
            trained.step(x(rows, epoch, update), y[torch.from_numpy(rows)], factors[training.done])
        yield trained.result()


def _updates(pictures: int, protocol: LinearProtocol) -> int:
    """Updates an epoch."""
    return -(-pictures // min(protocol.batch, pictures))


def head_ranks(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> npt.NDArray[np.int64]:
    """Rank of the true class for every picture and head: x [N, D], weight [D, C, H], bias [C, H] -> int64 [N, H]."""
    flat = weight.reshape(len(weight), -1)
    ranks = [
        true_rank(torch.addmm(bias.reshape(-1), xs, flat).view(len(xs), *bias.shape).transpose(1, 2), ys)
        for xs, ys in zip(x.split(2048), y.split(2048), strict=True)
    ]
    return torch.cat(ranks).cpu().numpy()


def ridge(x: Tensor, y: Tensor, classes: int, strengths: Sequence[float]) -> tuple[Tensor, Tensor, float]:
    """Ridge regression to one-hot targets with intercept, its strength chosen by leave-one-out squared error.

    x: float32 [N, D]; y: int64 [N]; a strength is relative to the mean squared singular value of the centred x. With
    x = U S V', hat matrix H = 1/N + U S^2 / (S^2 + l) U', the error at i without i is (t_i - H t) / (1 - H_ii).
    Returns weight [D, C, 1], bias [C, 1] as `head_ranks` takes them, and the chosen strength.
    """
    targets = F.one_hot(y, classes).double()
    mean, target_mean = x.double().mean(0), targets.mean(0)
    u, s, vh = torch.linalg.svd(x.double() - mean, full_matrices=False)
    scale = s.square().mean().clamp(min=torch.finfo(torch.float64).tiny)
    projected = u.T @ (targets - target_mean)

    def left_out(strength: float) -> float:
        shrink = s.square() / (s.square() + strength * scale)
        residual = targets - target_mean - u @ (shrink[:, None] * projected)
        leverage = 1 / len(x) + (u.square() * shrink).sum(1, keepdim=True)
        return float((residual / (1 - leverage).clamp(min=1e-12)).square().mean())

    strength = min(strengths, key=left_out)
    weight = vh.T @ ((s / (s.square() + strength * scale))[:, None] * projected)
    bias = target_mean - mean @ weight
    return weight.float()[:, :, None], bias.float()[:, None], strength
