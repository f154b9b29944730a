"""Class-balanced choices of training pictures, the same on every machine: numpy's PCG64 seeded by (seed, class)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def _shuffled(labels: Indices, seed: int) -> list[Indices]:
    """The indices of every class that occurs, each in an order of its own."""
    return [np.random.default_rng([seed, int(c)]).permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]


def _quotas(sizes: Indices, count: int) -> Indices:
    """`count` in the proportions of `sizes`, rounded by largest remainder, ties to the lower class."""
    count = min(count, int(sizes.sum()))
    ideal = sizes * (count / max(int(sizes.sum()), 1))
    quotas = np.floor(ideal).astype(int)
    by_remainder = np.argsort(quotas - ideal, kind="stable")
    quotas[by_remainder[: count - quotas.sum()]] += 1
    return quotas


def stratified(labels: Indices, count: int, seed: int, *, leave: int = 0) -> tuple[Indices, Indices]:
    """`count` pictures in the proportions of their classes, and the rest; both ascending.

    labels: int64 [N]. `leave` pictures of every class stay in the rest, even if fewer than `count` are then chosen.
    Quotas are rounded by largest remainder, ties to the lower class.
    """
    classes = _shuffled(labels, seed)
    sizes = np.array([len(c) for c in classes])
    quotas = np.minimum(_quotas(sizes, count), np.maximum(sizes - leave, 0))
    chosen = np.sort(np.concatenate([c[:q] for c, q in zip(classes, quotas, strict=True)]))
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


def holdout(labels: Indices, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """(fit, held): a class-balanced split, `fraction` of the pictures held out, one of every class kept to fit on.

    ValueError where that leaves nothing to hold out.
    """
    held, fit = stratified(labels, round(fraction * len(labels)), seed, leave=1)
    if not len(held):
        raise ValueError(
            f"{len(labels)} training images of {len(fit)} classes leave none to hold out: use more images per class"
        )
    return fit, held


def per_class(labels: Indices, count: int, splits: int, seed: int) -> list[Indices]:
    """`splits` choices of `count` pictures of every class, disjoint where the classes reach; [] if one is too small."""
    classes = _shuffled(labels, seed)
    if min(len(c) for c in classes) < count:
        return []
    return _in_turn(classes, np.full(len(classes), count), splits)


def shares(labels: Indices, share: float, splits: int, seed: int) -> list[Indices]:
    """`splits` choices of that share of the pictures, as `stratified` shares them out; [] if a class would get none.

    Disjoint where the classes reach. 0.01 and 0.1 are the usual semi-supervised settings; not the lists of ImageNet
    pictures that SimCLR's authors published, which no other data set has.
    """
    classes = _shuffled(labels, seed)
    quotas = _quotas(np.array([len(c) for c in classes]), round(share * len(labels)))
    return _in_turn(classes, quotas, splits) if quotas.min() else []


def _in_turn(classes: list[Indices], quotas: Indices, splits: int) -> list[Indices]:
    """Of every class the first `quota`, then the next, from the front again where they are used up."""
    return [
        np.sort(
            np.concatenate(
                [np.take(c, range(s * q, (s + 1) * q), mode="wrap") for c, q in zip(classes, quotas, strict=True)]
            )
        )
        for s in range(splits)
    ]
