from __future__ import annotations

import json
from pathlib import Path

import pytest

from slurm.folder import Folder, read_task
from slurm.graph import Resources, Task
from slurm.journal import Journal
from slurm.status import of_folder


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot create .*file/run.*: Not a directory; choose another folder"):
        Folder(tmp_path / "file" / "run")


def test_a_workspace_of_before_the_words_task_and_rank_is_read(tmp_path: Path) -> None:
    """Files as that version wrote them: ranks are called `tasks` there, and tasks `nodes`."""
    place, digest = Folder(tmp_path), "d5f86a71dbee"
    resources = {"cpus": 2, "gpus": 1, "nodes": 2, "tasks": 3, "memory_gb": 2.0, "minutes": 60}
    about = {"key": "a", "target": "m:f", "args": {"x": [1, None]}, "resources": resources}
    place.task("a", digest).write_text(json.dumps({**about, "after": ["p"], "stage": "s", "always": True}))
    lines = [
        {"event": "started", "run": "here", "nodes": {"a": digest}, "code": "/code", "time": 5.0},
        {"event": "submitting", "name": "a.1", "nodes": {"a": digest}, "owner": "zoe", "time": 6.0},
    ]
    place.journal.write_text("".join(f"\n{json.dumps(line)}" for line in lines))
    task = read_task(place.task("a", digest))
    wants = Resources(cpus=2, gpus=1, nodes=2, ranks_per_node=3)
    assert task == Task("a", "m:f", {"x": [1, None]}, wants, ("p",), "s", True)
    assert task.digest == digest and task.resources.ranks == 6
    before = place.task("a", digest).stat()
    assert place.write_task(task).stat() == before, "it is the same file, and not written again"
    assert Journal(place).open == {"a.1": "zoe"}
    (state,) = of_folder(tmp_path)
    assert (state.key, state.state, state.entry.code) == ("a", "interrupted", "/code")
