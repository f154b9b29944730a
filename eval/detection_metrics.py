"""How detections are judged: by COCO's rules, and by those of PASCAL VOC 2007."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from eval import mmcv_ops
from eval.coco_objects import require_masks, require_sound

# Order of pycocotools' summary, followed there by six recalls.
_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def coco_results(sample: Any, categories: Sequence[int]) -> list[dict[str, Any]]:
    """mmdet's prediction for one picture -> COCO's results format (boxes `x, y, w, h` in pixels of the file)."""
    from pycocotools import mask as coding

    predicted = sample.pred_instances.cpu()
    boxes = predicted.bboxes.numpy().astype(float)
    boxes[:, 2:] -= boxes[:, :2]
    results: list[dict[str, Any]] = []
    for box, score, label in zip(boxes, predicted.scores, predicted.labels, strict=True):
        results.append(
            {
                "image_id": sample.img_id,
                "category_id": categories[int(label)],
                "bbox": box.tolist(),
                "score": float(score),
            }
        )
    if "masks" in predicted:
        for result, mask in zip(results, predicted.masks.numpy(), strict=True):
            run_lengths = coding.encode(np.asfortranarray(mask.astype(np.uint8)))
            result["segmentation"] = {"size": run_lengths["size"], "counts": run_lengths["counts"].decode("ascii")}
    return results


def coco_metrics(
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    categories: list[dict[str, Any]],
    results: list[dict[str, Any]],
    kinds: Sequence[str] = ("bbox", "segm"),
) -> dict[str, float]:
    """COCO's AP of boxes (`bbox_AP`, ...) and masks (`segm_AP`, ...) in percent, by faster-coco-eval.

    It gives pycocotools' numbers (a test holds them against each other) in a fraction of the time.
    All arguments in COCO's formats. AP, AP50, AP75 and AP of small, medium and large objects, 100 detections a
    picture; a metric for which there is no object (the evaluator says -1) is left out. Objects marked `difficult` are
    ignored as crowds are. Annotation ids are of no account.

    Raises ValueError where a box or a score is not finite, and for a mask that is none.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    require_sound(annotations, "an object")
    require_sound(results, "a detection")
    if "segm" in kinds:
        require_masks(images, annotations)

    def index(entries: list[dict[str, Any]]) -> Any:
        return COCO({"images": images, "annotations": entries, "categories": categories})

    metrics: dict[str, float] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        # Numbered from 1: an object with the id 0 would never count as found.
        truth = index(
            [
                {**entry, "id": number, "iscrowd": int(bool(entry["iscrowd"] or entry.get("difficult")))}
                for number, entry in enumerate(annotations, start=1)
            ]
        )
        for kind in kinds:
            # A result with both keys would be sized by its box in the judgement of masks.
            other = {"bbox": "segmentation", "segm": "bbox"}[kind]
            own = [{key: value for key, value in result.items() if key != other} for result in results]
            judge = COCOeval_faster(truth, truth.loadRes(own) if own else index([]), kind)
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
            values = zip(_NAMES, judge.stats, strict=False)
            metrics |= {f"{kind}_{name}": 100 * float(value) for name, value in values if value >= 0}
    return metrics


def voc07_metrics(
    annotations: list[dict[str, Any]], categories: list[dict[str, Any]], results: list[dict[str, Any]]
) -> dict[str, float]:
    """PASCAL VOC 2007's average precision as detectron2 reports it: `bbox_AP`, `bbox_AP50` and `bbox_AP75`, percent.

    Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010: precision at 11 recalls; a
    detection belongs to the object that it overlaps most; whatever belongs to a `difficult` object counts neither for
    nor against. `bbox_AP` is the mean over IoU 0.5 to 0.95. Classes without an object are left out.
    """
    mmcv_ops.import_mmdet()
    from mmdet.evaluation.functional.mean_ap import average_precision, tpfp_default

    def corners(entries: Sequence[dict[str, Any]]) -> np.ndarray[Any, Any]:
        boxes = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)

    thresholds = [0.5 + 0.05 * step for step in range(10)]
    truths, found = (_by_class_and_picture(entries) for entries in (annotations, results))
    precisions = []
    for category in (entry["id"] for entry in categories):
        # What the release calls difficult is ignored, crowds (which VOC has none of) likewise.
        counted = {
            image: [not (entry.get("difficult") or entry["iscrowd"]) for entry in entries]
            for image, entries in truths.get(category, {}).items()
        }
        objects = sum(map(sum, counted.values()))
        if not objects:
            continue
        scores = [np.empty(0)]
        marks = [np.empty((len(thresholds), 2, 0))]
        for image, entries in found.get(category, {}).items():
            theirs = corners(truths.get(category, {}).get(image, []))
            counts = np.array(counted.get(image, []), dtype=bool)
            score = np.array([entry["score"] for entry in entries])
            boxes = np.concatenate([corners(entries), score[:, None]], axis=1)
            hits = [tpfp_default(boxes, theirs[counts], theirs[~counts], iou_thr=value) for value in thresholds]
            scores.append(score)
            marks.append(np.array([[tp[0], fp[0]] for tp, fp in hits]))
        order = np.argsort(-np.concatenate(scores), kind="stable")
        true, false = np.concatenate(marks, axis=2)[:, :, order].cumsum(axis=2).swapaxes(0, 1)
        precision = true / np.maximum(true + false, 1)
        precisions.append(average_precision(true / objects, precision, mode="11points"))
    if not precisions:
        return {}
    means = 100 * np.array(precisions, dtype=np.float64).mean(axis=0)
    return {"bbox_AP": float(means.mean()), "bbox_AP50": float(means[0]), "bbox_AP75": float(means[5])}


def _by_class_and_picture(entries: Sequence[dict[str, Any]]) -> dict[int, dict[int, list[dict[str, Any]]]]:
    sorted_out: dict[int, dict[int, list[dict[str, Any]]]] = {}
    for entry in entries:
        sorted_out.setdefault(entry["category_id"], {}).setdefault(entry["image_id"], []).append(entry)
    return sorted_out
