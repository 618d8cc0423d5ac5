"""Series of figures over time: thinning that keeps their extremes, gaps, and a description in words. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

#: Points that a series keeps on a page; a chart is a few hundred pixels wide.
MOST_POINTS: Final = 600


class Point(NamedTuple):
    """Figure at a time, s since the run began; ``value`` is None where there was none."""

    at_s: float
    value: float | None


@dataclass(frozen=True, slots=True)
class Series:
    """Series as a page needs it.

    Attributes:
        points: At most :data:`MOST_POINTS` of its points, with all extremes.
        middle: Median of each stretch where points were left out; empty where none were.
        median: Median of all its figures; None without any.
        highest: Point with the highest figure.
    """

    points: Sequence[Point]
    middle: Sequence[Point]
    median: float | None
    highest: Point | None


def series(points: Iterable[tuple[float, float | None]]) -> Series:
    """Return a series with the median and the highest point of all figures, thinned; no finite number is a gap."""
    every = clean(points)
    ordered = numbers(every)
    there = [point for point in every if point.value is not None]
    return Series(
        points=thin(every),
        middle=[_middle(stretch) for stretch in _stretches(every, MOST_POINTS)] if len(every) > MOST_POINTS else [],
        median=ordered[len(ordered) // 2] if ordered else None,
        highest=max(there, key=lambda point: point.value or 0.0) if there else None,
    )


def clean(points: Iterable[tuple[float, float | None]]) -> list[Point]:
    """Return points in which whatever is no finite number is None."""
    return [
        Point(at_s, None if value is None or not math.isfinite(value) else float(value))
        for at_s, value in points
        if math.isfinite(at_s)
    ]


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Return at most ``most`` points: of every stretch the least, the greatest and one gap, in their order."""
    if len(points) <= most:
        return list(points)
    return [point for stretch in _stretches(points, most) for point in _extremes(stretch)]


def _stretches(points: Sequence[Point], most: int) -> list[Sequence[Point]]:
    """Divide points into stretches of which three points each may stay."""
    size = math.ceil(len(points) / max(most // 3, 1))
    return [points[start : start + size] for start in range(0, len(points), size)]


def _middle(stretch: Sequence[Point]) -> Point:
    ordered = numbers(stretch)
    return Point(stretch[len(stretch) // 2].at_s, ordered[len(ordered) // 2] if ordered else None)


def _extremes(stretch: Sequence[Point]) -> list[Point]:
    def value(index: int) -> float:
        return stretch[index].value or 0.0

    there = [index for index, point in enumerate(stretch) if point.value is not None]
    gaps = [index for index, point in enumerate(stretch) if point.value is None]
    chosen = {min(there, key=value), max(there, key=value)} if there else set()
    return [stretch[index] for index in sorted(chosen | set(gaps[:1]))]


def segments(points: Sequence[Point]) -> list[list[tuple[float, float]]]:
    """Return the stretches between gaps."""
    found: list[list[tuple[float, float]]] = [[]]
    for at_s, value in points:
        if value is not None:
            found[-1].append((at_s, value))
        elif found[-1]:
            found.append([])
    return [one for one in found if one]


def numbers(points: Iterable[Point]) -> list[float]:
    """Return the figures of a series, without gaps, in ascending order."""
    return sorted(point.value for point in points if point.value is not None)
