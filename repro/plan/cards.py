"""Graphics cards: what they have, as their makers state it, and how fast networks train on them, estimated.

Bandwidth tells more of the speed than the peak of the tensor cores: the head of cards.toml has the figures.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated

from msgspec import Meta

from repro.errors import UserError, unknown
from repro.plan.tables import Number, Text, toml, typed

_MOST_GB = 10_000  # of memory that a card may be said to have


@dataclass(frozen=True)
class Share:
    """What training reaches in one precision: operations a byte of bandwidth, at most that share of the peak."""

    per_byte: Number
    of_peak: Number


@dataclass(frozen=True)
class Card:
    """One table of cards.toml, whose head explains the keys."""

    name: Text
    title: Text
    smi: Annotated[Sequence[str], Meta(description="a list of names")]
    memory_gb: Number
    bf16: Number
    fp32: Number
    bandwidth: Number
    source: Text

    @property
    def title_and_memory(self) -> str:
        """`A100 40 GB`, `GeForce RTX 3060, 12 GB`: some titles name the memory."""
        memory = f"{self.memory_gb:g} GB"
        return self.title if self.title.endswith(f" {memory}") else f"{self.title}, {memory}"

    def precision(self, wanted: str) -> str:
        """That precision, or "fp32" where the card has none other."""
        return wanted if wanted == "fp32" or self.bf16 else "fp32"

    def rate(self, wanted: str) -> float:
        """Operations a second that a training in that precision gets done, estimated."""
        precision = self.precision(wanted)
        share = _table()[1][precision]
        peak = self.bf16 if precision == "bf16" else self.fp32
        return min(share.per_byte * self.bandwidth * 1e9, share.of_peak * peak * 1e12)


@cache
def _table() -> tuple[Mapping[str, Card], Mapping[str, Share]]:
    source = files("repro.plan").joinpath("cards.toml")
    raw = toml(source.read_bytes(), source)
    found = {name: typed(Card, table, f"cards.toml: {name}", name=name) for name, table in raw["cards"].items()}
    shares = {name: typed(Share, table, f"cards.toml: share.{name}") for name, table in raw["share"].items()}
    return found, shares


def cards() -> Mapping[str, Card]:
    """Every card of cards.toml by name, the smallest memory first."""
    return _table()[0]


def find(text: str) -> Card:
    """`rtx4090`, or `24GB`: the slowest card with bf16 of the least memory in the table that is as much.

    Raises:
        UserError: no such card, or no memory.
    """
    if text in cards():
        return cards()[text]
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*gi?b", text.strip().lower()):
        if 0 < float(match[1]) <= _MOST_GB:
            return _of_memory(float(match[1]))
        raise UserError(f"--card {text}: memory must be above 0 and at most {_MOST_GB} GB; write it as 24GB")
    line = str(unknown("card", text, cards()))
    raise UserError(f"--card {text}: {line}; or say its memory: --card 24GB")


def named(device: str) -> Card | None:
    """The card that nvidia-smi and records call so."""
    return next((card for card in cards().values() if device in card.smi), None)


def _of_memory(memory_gb: float) -> Card:
    modern = [card for card in cards().values() if card.bf16]
    least = min((c.memory_gb for c in modern if c.memory_gb >= memory_gb), default=max(c.memory_gb for c in modern))
    like = min((card for card in modern if card.memory_gb == least), key=lambda card: card.bandwidth)
    title = f"a card of {memory_gb:g} GB"
    source = f"speed of {like.title}: {like.source}"
    return dataclasses.replace(like, name=f"{memory_gb:g}GB", title=title, smi=(), memory_gb=memory_gb, source=source)


@dataclass(frozen=True)
class Seen:
    """A GPU of this machine. name: as nvidia-smi and records have it, "" for none.  memory_gb: 0 where not told."""

    name: str = ""
    memory_gb: float = 0.0

    def card(self) -> Card | None:
        """What is known of it: its row, else that of a card of its memory; None where there is no GPU."""
        if card := named(self.name):
            return dataclasses.replace(card, memory_gb=min(card.memory_gb, self.memory_gb or card.memory_gb))
        if not self.memory_gb:
            return None
        return dataclasses.replace(_of_memory(self.memory_gb), title=f"{self.name}, {self.memory_gb:g} GB")


def here() -> Seen:
    """The first GPU that this process may use."""
    from slurm.machine import gpus_here

    gpus = gpus_here()
    if not gpus:  # hidden by CUDA_VISIBLE_DEVICES, say
        return Seen()
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    query += [] if gpus[0].startswith("MIG-") else [f"--id={gpus[0]}"]  # of a part of a GPU it cannot be asked
    try:
        answer = subprocess.run(query, capture_output=True, text=True, errors="replace", timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return Seen()
    name, _, memory = (answer.stdout.splitlines() or [""])[0].rpartition(", ")
    return Seen(name, round(float(memory) / 1024) if memory.strip().isdecimal() else 0.0)
