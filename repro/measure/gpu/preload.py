"""What the parts need, imported once by the server that their processes are forked from.

mmengine looks for a GPU as it is imported, and torch refuses every GPU to what is forked from a process that has looked
for one. So while this is imported there is none to be seen.
"""

from __future__ import annotations

from importlib import import_module
from unittest import mock

from repro.measure.gpu.parts import PARTS

with mock.patch("torch.cuda.is_available", lambda: False):
    for name in ("repro.measure.gpu.working", *(part.run.partition(":")[0] for part in PARTS.values())):
        import_module(name)
