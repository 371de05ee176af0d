"""Where a program jumps or bends as a continuous number moves: found, so that quadrature can stop there.

Along the walk through a program every comparison is seen as a difference `d`, which changes its sign where
the comparison changes its answer. Among worlds that differ in one continuous number alone, `d` is a function
of that number; its roots are found by interpolation between the nodes. They become ends of panels when the
program is walked again. A jump along a curve in several numbers is a root in the number that was drawn last,
at a place of its own for each assignment of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ppl.testing.worlds import Worlds

_WINDOW = 8  # nodes that a root is interpolated from
_MOST = 24  # breaks of one number
_SAME = 1e-9  # two roots that are closer are one


class Breaks:
    """Where continuous numbers are cut.

    Attributes:
        known: for each number, by name, its breaks: of shape `(breaks,)` if they are the same in all worlds,
            else `(worlds, breaks)` for the worlds before it was drawn; padded with NaN.
        found: what was seen in this walk: in which world before the draw, and where.
        order: the names of the numbers, as they are drawn.
    """

    def __init__(self, known: dict[Any, np.ndarray] | None = None) -> None:
        self.known = known or {}
        self.found: dict[Any, list[tuple[np.ndarray, np.ndarray]]] = {}
        self.counts: dict[Any, int] = {}
        self.order: list[Any] = []
        self.unresolved = False

    def of(self, name: Any, count: int) -> np.ndarray | None:
        """The breaks of a number in each of `count` worlds."""
        self.order.append(name)
        self.counts[name] = count
        known = self.known.get(name)
        if known is None:
            return None
        if known.ndim == 2 and len(known) != count:
            self.unresolved = True  # the worlds are others than those that it was found in
            return None
        return np.broadcast_to(known, (count, known.shape[-1]))

    def watch(self, difference: np.ndarray, worlds: Worlds) -> None:
        """Note where a number, one for each world, changes its sign."""
        positive = difference >= 0
        if positive.all() or not positive.any() or not np.isfinite(difference).all():
            return
        for number in reversed(range(len(worlds.splits))):
            if worlds.splits[number].nodes is not None and self._along(number, difference, worlds):
                return

    def _along(self, number: int, difference: np.ndarray, worlds: Worlds) -> bool:
        """Note the roots along one continuous number, if the difference moves with it."""
        nodes = worlds.read(worlds.splits[number].nodes)
        group = np.zeros(len(nodes), int)
        for other, split in enumerate(worlds.splits):
            if other != number:
                part = worlds.read(split.part)
                _, group = np.unique(group * (part.max() + 1) + part, return_inverse=True)
        order = np.lexsort((nodes, group))
        d, z, g = difference[order], nodes[order], group[order]
        same = g[1:] == g[:-1]
        if not np.any(same & (d[1:] != d[:-1])):
            return False
        (places,) = np.nonzero(same & ((d[1:] >= 0) != (d[:-1] >= 0)))
        roots = _roots(d, z, g, places)
        ancestors = worlds.ancestors(number)[order][places]
        self.found.setdefault(worlds.splits[number].name, []).append((ancestors, roots))
        return True

    def next(self) -> Breaks | None:
        """The breaks for another walk; `None` if what was found is what was known."""
        known, changed = {}, False
        for name in self.order:
            breaks = self._merged(name)
            before = self.known.get(name)
            if breaks is None:
                continue
            if changed and breaks.ndim == 2:
                continue  # the worlds before it will be others
            known[name] = breaks
            if before is None or before.shape != breaks.shape or not _equal(before, breaks):
                changed = True
        return Breaks(known) if changed or known.keys() != self.known.keys() else None

    def _merged(self, name: Any) -> np.ndarray | None:
        if name not in self.found:
            return None
        ancestors, roots = (np.concatenate(parts) for parts in zip(*self.found[name], strict=True))
        order = np.lexsort((roots, ancestors))
        ancestors, roots = ancestors[order], roots[order]
        fresh = np.ones(len(roots), bool)
        fresh[1:] = (ancestors[1:] != ancestors[:-1]) | (roots[1:] - roots[:-1] > _SAME)
        ancestors, roots = ancestors[fresh], roots[fresh]
        sizes = np.bincount(ancestors, minlength=self.counts[name])
        if sizes.max() > _MOST:
            self.unresolved = True
            return None
        rows = np.full((len(sizes), sizes.max()), np.nan)
        place = np.arange(len(roots)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rows[ancestors, place] = roots
        spread = np.nanmax(rows, axis=0) - np.nanmin(rows, axis=0)
        if not np.isnan(rows).any() and np.all(spread < _SAME):
            return np.median(rows, axis=0)
        return rows


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.all((np.abs(one - other) < _SAME) | (np.isnan(one) & np.isnan(other))))


def _roots(d: np.ndarray, z: np.ndarray, group: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Roots between sorted nodes `places` and the next ones, by interpolation from their neighbors.

    Neighbors of another group, or at the same node, have weight zero.
    """
    offsets = np.arange(_WINDOW) - (_WINDOW // 2 - 1)
    window = np.clip(places[:, None] + offsets, 0, len(d) - 1)
    x, y = z[window], d[window]
    use = group[window] == group[places][:, None]
    use &= (places[:, None] + offsets >= 0) & (places[:, None] + offsets < len(d))
    scale = np.ptp(x, axis=1, keepdims=True) + 1e-300
    gaps = (x[:, :, None] - x[:, None, :]) / scale[:, :, None]
    both = use[:, :, None] & use[:, None, :] & ~np.eye(_WINDOW, dtype=bool)
    gaps = np.where(both, gaps, 1.0)
    weights = np.where(use, 1 / np.prod(np.where(gaps == 0, 1.0, gaps), axis=2), 0.0)
    low, high = z[places].astype(float), z[places + 1].astype(float)
    at_low = d[places] >= 0
    # The interpolant may miss a jump of d itself: its ends are then on one side, and the middle is taken.
    for _ in range(60):
        middle = (low + high) / 2
        gap = middle[:, None] - x
        hit = np.abs(gap) < 1e-300
        terms = weights / np.where(hit, 1.0, gap)
        value = np.sum(terms * y, axis=1) / np.sum(terms, axis=1)
        value = np.where(hit.any(axis=1), np.sum(np.where(hit, y, 0), axis=1), value)
        left = (value >= 0) == at_low
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    return (low + high) / 2
