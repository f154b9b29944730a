"""One detector: its training, which goes on where it was killed, and its judgement.

The loop is not mmengine's runner: every draw derives from (seed, update), so that a killed job ends with the same
weights, and its checkpoints hold tensors and plain types only.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from eval.coco import CocoPictures, batches, collate, derive, heed_no_notice, one_line
from eval.coco_file import CocoFile
from eval.context import Context
from eval.data import Normalisation
from eval.deep_pixels import Reach
from eval.detection_metrics import coco_metrics, coco_results, voc07_metrics
from eval.detectors import build
from eval.protocols.detection import DetectionProtocol
from eval.training import Checkpoint, Training, identity, set_rate, trainable


class Detector:
    """A detector that starts from a copy of an encoder."""

    def __init__(
        self,
        encoder: nn.Module,
        split: CocoFile,
        normalisation: Normalisation,
        protocol: DetectionProtocol,
        context: Context,
        *,
        seed: int,
        name: str,
        reach: Reach | None = None,
    ) -> None:
        """split: what it is trained on; name: of this training in the store; reach: as of `CocoPictures`."""
        self.reach = reach
        self.split, self.protocol, self.context = split, protocol, context
        self.seed = derive(seed, name)
        torch.manual_seed(derive(self.seed, "build"))
        # Any: mmdet has no types.
        self.model: Any = build(copy.deepcopy(encoder), len(split.names), normalisation, protocol).to(context.device)
        # What must agree for a checkpoint to be this job's; the new layers follow from the seed.
        shapes = [list(tensor.shape) for tensor in self.model.state_dict().values()]
        images = [image["id"] for image in split.images]
        colours = [list(normalisation.mean), list(normalisation.std)]
        plain = [dataclasses.asdict(protocol), seed, split.names, images, shapes, *colours]
        self.checkpoint = Checkpoint(context.store, f"{name}.pt", identity(plain, encoder), "detection")

    def train(self) -> dict[str, Any]:
        """Returns what is worth keeping of the training: counts and the mean loss of its last tenth."""
        p = self.protocol
        data = CocoPictures(self.split, p, training=True, reach=self.reach)
        optimizer = _optimizer(self.model, p)
        training = Training(
            {"model": self.model, "optimizer": optimizer},
            1,
            p.iterations,
            kept={"losses": torch.zeros(p.iterations, device=self.context.device)},
            checkpoint=self.checkpoint,
            progress=self.context.progress,
        )
        losses = training.kept["losses"]
        self.model.train()
        with training:
            for _ in training.each_epoch():
                loader = self._loader(data, training.update, p.iterations)
                for update, batch in zip(training.each_update(), one_line(loader), strict=True):
                    torch.manual_seed(derive(self.seed, "update", update))  # for mmdet's samplers of anchors and RoIs
                    set_rate(optimizer, rate(update, p))
                    inputs = self.model.data_preprocessor(batch, True)
                    loss, _ = self.model.parse_losses(self.model(**inputs, mode="loss"))
                    optimizer.zero_grad()
                    loss.backward()
                    if p.clip_grad > 0:
                        nn.utils.clip_grad_norm_(self.model.parameters(), p.clip_grad)
                    optimizer.step()
                    losses[update] = loss.detach()
                    done = update + 1
                    if done % 10 == 0 or done == p.iterations:
                        value = training.info["loss"] = float(loss.detach())
                        if not math.isfinite(value):
                            raise ValueError(f"the detector's loss is {value} after {done} updates; lower detection.lr")
        self._renew_statistics(data)
        return {
            "pictures": len(data),
            "iterations": p.iterations,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "loss": float(losses[-max(1, p.iterations // 10) :].mean()),
            "resumed": self.checkpoint.note,
        }

    def _loader(self, data: CocoPictures, start: int, stop: int) -> DataLoader[dict[str, Any]]:
        """Batches of training pictures for updates `start` to `stop`."""
        return DataLoader(
            data,
            batch_sampler=batches(data.wide, self.protocol.batch, self.seed, start, stop),
            num_workers=self.context.workers,
            collate_fn=collate,
            worker_init_fn=heed_no_notice,
        )

    def _renew_statistics(self, data: CocoPictures) -> None:
        """Replace running statistics of trained BatchNorm layers by means over `precise_norm` more batches.

        detectron2's PreciseBN: running means remember the last updates best, during which the weights still moved.
        """
        p = self.protocol
        kept = [m for m in self.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
        if not (p.precise_norm and kept):
            return
        momenta = [layer.momentum for layer in kept]
        for layer in kept:
            layer.reset_running_stats()
            layer.momentum = None  # torch's way to ask for the plain mean over all batches
        stop = training_batches(p)
        with torch.no_grad():
            for number, batch in enumerate(one_line(self._loader(data, p.iterations, stop)), start=p.iterations):
                torch.manual_seed(derive(self.seed, "update", number))
                self.model(**self.model.data_preprocessor(batch, True), mode="loss")
                self.context.progress(number + 1, stop, {})
        for layer, momentum in zip(kept, momenta, strict=True):
            layer.momentum = momentum

    def judge(self, split: CocoFile) -> tuple[dict[str, float], dict[int, list[dict[str, Any]]]]:
        """The protocol's metrics on `split`, and the detections in COCO's results format by picture id."""
        data = CocoPictures(split, self.protocol, training=False, reach=self.reach)
        categories = [category["id"] for category in split.categories]
        found: dict[int, list[dict[str, Any]]] = {}
        self.model.eval()
        loader = DataLoader(data, batch_size=1, num_workers=self.context.workers, collate_fn=collate)
        before = training_batches(self.protocol)
        with torch.inference_mode():
            for done, batch in enumerate(one_line(loader), start=1):
                (sample,) = self.model(**self.model.data_preprocessor(batch, False), mode="predict")
                found[sample.img_id] = coco_results(sample, categories)
                self.context.progress(before + done, before + len(data), {})
        results = list(itertools.chain.from_iterable(found.values()))
        kinds = ("bbox", "segm") if self.protocol.masks else ("bbox",)
        metrics = coco_metrics(split.images, split.annotations, split.categories, results, kinds)
        if self.protocol.metric == "voc07":
            beside = {f"coco_{name}": value for name, value in metrics.items()}
            metrics = voc07_metrics(split.annotations, split.categories, results) | beside
        return metrics, found


def rate(update: int, protocol: DetectionProtocol) -> float:
    """Learning rate of one update: linear warm-up from `warmup_factor`, times a tenth a milestone or a cosine.

    As detectron2's WarmupMultiStepLR and WarmupCosineLR: the cosine runs from the first update, not from the warm-up.
    """
    p = protocol
    warm = 1.0 if update >= p.warmup else p.warmup_factor + (1 - p.warmup_factor) * update / p.warmup
    if p.schedule == "cosine":
        return p.lr * warm * 0.5 * (1 + math.cos(math.pi * update / p.iterations))
    return p.lr * warm * 0.1 ** sum(update >= milestone for milestone in p.milestones)


def training_batches(protocol: DetectionProtocol) -> int:
    """Batches of training pictures: those trained on and those for statistics alone."""
    return protocol.iterations + protocol.precise_norm


def _optimizer(model: nn.Module, p: DetectionProtocol) -> torch.optim.Optimizer:
    groups = trainable(model, p.weight_decay)
    if p.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=p.lr, momentum=p.momentum)
    return torch.optim.AdamW(groups, lr=p.lr)
