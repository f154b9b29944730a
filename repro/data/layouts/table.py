"""The layouts by the names that entries call them. A new one is a module beside this and a row here."""

from __future__ import annotations

from repro.data.layouts.cifar import CifarJpeg, CifarOfficial
from repro.data.layouts.class_folders import ClassFolders
from repro.data.layouts.coco import Coco
from repro.data.layouts.digits import Digits
from repro.data.layouts.layout import ClassificationLayout, DetectionLayout, Layout, ReidLayout
from repro.data.layouts.reid_names import Market, Sysu
from repro.data.layouts.voc import Voc

CLASSIFICATION: dict[str, ClassificationLayout] = {
    "class folders": ClassFolders(),
    "cifar jpeg": CifarJpeg(),
    "cifar official": CifarOfficial(),
    "digits": Digits(),
}
DETECTION: dict[str, DetectionLayout] = {
    "coco": Coco("images/{}", "annotations/instances_{}.json"),
    "coco 2017": Coco("{}2017", "annotations/instances_{}2017.json"),
    "voc": Voc(),
}
REID: dict[str, ReidLayout] = {
    "market": Market(),
    "sysu": Sysu(),
}
LAYOUTS: dict[str, Layout] = {**CLASSIFICATION, **DETECTION, **REID}
