"""One update of every case, on rank `rank` of `count` processes: run by test_conformance.py.

python two_processes.py FOLDER RANK COUNT reads FOLDER/cases.json, and rank 0 writes FOLDER/COUNT.pt.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from methods.base import Batch, Clock, load_method
from methods.parts.norm import synchronised
from small import LABELLED, built, pictures, streams


def smooth(module: torch.nn.Module) -> None:
    """ReLU becomes SiLU: at a kink, a difference of rounding alone moves a gradient by more than the test allows."""
    for name, child in module.named_children():
        if isinstance(child, torch.nn.ReLU):
            setattr(module, name, torch.nn.SiLU())
        smooth(child)


folder, rank, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
if count > 1:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
results = {}
for module, tables in json.loads((folder / "cases.json").read_text()):
    label = tables.pop("name")
    total = tables["pretrain"]["batch"]
    rows = slice(rank * total // count, (rank + 1) * total // count)
    images = pictures(total)
    method = built(load_method(module), tables, LABELLED)
    synchronised(method)
    smooth(method)
    batch = Batch(images[rows], (torch.arange(total) % 4)[rows])
    views = next(iter(method.steps(batch, streams(total, part=rows))))
    outputs = method(views)
    losses = {key: value for key, value in outputs.items() if key.startswith("loss_")}
    torch.stack(list(losses.values())).sum().backward()
    found = {key: value.detach().clone() for key, value in losses.items()}
    found |= {f"grad {key}": p.grad.clone() for key, p in method.named_parameters() if p.grad is not None}
    if count > 1:  # all at once: a message for each tensor would take longer than what is computed
        flat = torch.cat([value.flatten() for value in found.values()])
        dist.all_reduce(flat)
        parts = (flat / count).split([value.numel() for value in found.values()])
        found = {key: part.view_as(found[key]) for key, part in zip(found, parts, strict=True)}
    method.after_update(Clock(1, 10), [{k: v for k, v in outputs.items() if k.startswith("pending_")}])
    found |= {f"state {key}": value.clone().float() for key, value in method.state_dict().items()}
    results[f"{label['name']}:{label['variant']}"] = found
if rank == 0:
    torch.save(results, folder / f"{count}.pt")
if count > 1:
    dist.destroy_process_group()
