"""The pictures that a job reads: each seed draws its own training pictures, all share the test pictures."""

from __future__ import annotations

import numpy as np
import pytest

from repro import jobs, settings
from repro.plan.builder import make
from repro.plan.request import Request
from repro.stages.pictures import classification_pictures, labelled_pictures
from repro.store.workspace import Workspace


@pytest.mark.seconds
@pytest.mark.usefixtures("own_folder")
def test_arms_of_a_seed_share_their_training_pictures_and_seeds_do_not() -> None:
    here = settings.load({})
    request = Request(("byol", "simclr"), evaluations=("knn",), seeds=(0, 1), overrides=("data.limit=200",))
    drawn: dict[int, list[np.ndarray]] = {}
    tests = []
    for job in make(request, here).jobs:
        if job.kind not in ("pretrain", "features"):
            continue
        context = jobs.context_of(job, Workspace(here.workspace), here.where)
        train, labels = labelled_pictures(context, "train")
        assert np.bincount(labels).tolist() == [20] * 10
        drawn.setdefault(job.seed, []).append(train.pixels)
        tests.append(np.array(classification_pictures(context, "test").pixels))
    assert len(drawn[0]) == len(drawn[1]) == 4
    assert all((pixels == same[0]).all() for same in drawn.values() for pixels in same)
    assert all((pixels == tests[0]).all() for pixels in tests) and len(tests[0]) == 1000
    first, second = ({picture.tobytes() for picture in drawn[seed][0]} for seed in (0, 1))
    assert 0 < len(first & second) < 40  # of 200 of 4,000, 10 on average
    held_out = {picture.tobytes() for picture in tests[0]}
    assert not (first | second) & held_out
