"""The words of `--set` that turn what this checkout has into what a record or a claim has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def differing(table: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """`table.key=value` for each key of `then` that `now` has otherwise, or not at all."""
    plain = json.loads(json.dumps(dict(now)))  # tuples become lists, as in the record
    return [
        f"{table}.{key}={json.dumps(value)}" for key, value in then.items() if key not in plain or plain[key] != value
    ]


def nearest_arch(network: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The `--arch` that is nearest to a table [network], and what `--set` must change in it."""
    from repro.weights.architectures import ARCHS

    apart = {
        name: differing("network", network, known) for name, known in ARCHS.items() if known["arch"] == network["arch"]
    }
    return min(apart.items(), key=lambda item: len(item[1]))
