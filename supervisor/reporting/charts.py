"""Charts as inline SVG: lines over time, states over time, and ranges side by side. Pure.

Line charts are small, one a venue, so that they stay legible on a phone; the others take the width of their column,
because their coordinates are percentages. Colours come from classes, so that one file serves light, dark and paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from supervisor.overview.document import SpanKind
from supervisor.reporting.kinds import RANKS, kind_of, sign_of, state_words
from supervisor.reporting.markup import Content, Html, tag
from supervisor.reporting.scales import Scale, clock, time_mark, time_step
from supervisor.reporting.series import Point, Series, segments

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 360, 150, 46, 8, 8, 20
#: Spans and marks of a timeline; more are merged, because they would be narrower than a pixel.
_MOST_SPANS: Final = 1000
_MOST_MARKS: Final = 400


@dataclass(frozen=True, slots=True)
class ChartLine:
    """Line of a chart: its name, its figures, and its class (``now`` or ``past``)."""

    name: str
    series: Series
    style: str = "now"


def line_chart(
    title: str,
    lines: Sequence[ChartLine],
    scale: Scale,
    show: Callable[[float], str],
    total_s: float,
    limit: float | None = None,
    about: str = "",
) -> Html:
    """Return a figure of lines over time, with axes, and in words their medians and highest values.

    Args:
        title: Heading.
        lines: What is drawn, in this order.
        scale: Vertical scale; shared by charts that are compared.
        show: Formats a value with its unit.
        total_s: Length of the time axis.
        limit: Drawn as a dashed line where it lies within the scale.
        about: What is drawn, where the heading does not say so.
    """
    total_s = max(total_s, 1.0)
    x_of, y_of = _axes(scale, total_s)
    parts: list[Html] = []
    for tick in scale.ticks():
        y = y_of(tick)
        parts.append(tag("path", d=f"M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}", class_="grid"))
        parts.append(tag("text", show(tick), x=_LEFT - 6, y=f"{y + 4:.1f}", text_anchor="end"))
    step = time_step(total_s, 5)
    parts += [
        tag(
            "text",
            time_mark(second, step),
            x=f"{x_of(second):.1f}",
            y=_HEIGHT - 5,
            text_anchor="end" if total_s - second < step / 5 else "middle",
        )
        for second in range(0, int(total_s) + 1, step)
    ]
    if limit is not None and scale.low < limit <= scale.high:
        parts.append(tag("path", d=f"M{_LEFT} {y_of(limit):.1f}H{_WIDTH - _RIGHT}", class_="limit"))
    for line in lines:
        of = line.series
        style = f"{line.style} spread" if of.middle else line.style
        parts.append(tag("path", d=_path(of.points, x_of, y_of), class_=style))
        if of.middle:
            parts.append(tag("path", d=_path(of.middle, x_of, y_of), class_=line.style))
    words = [_in_words(line, show) for line in lines]
    drawing = tag(
        "svg",
        parts,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=f"{about} {title}: {'; '.join(words)}".strip(),
    )
    return tag("figure", tag("h3", title), drawing, [tag("figcaption", text) for text in words])


def _axes(scale: Scale, total_s: float) -> tuple[Callable[[float], float], Callable[[float], float]]:
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x_of(at_s: float) -> float:
        return _LEFT + width * min(max(at_s / total_s, 0.0), 1.0)

    def y_of(value: float) -> float:
        return _TOP + height * (1 - scale.share(value))

    return x_of, y_of


def _path(points: Sequence[Point], x_of: Callable[[float], float], y_of: Callable[[float], float]) -> str:
    """Return the path of a series; a gap interrupts it, and a lone point is a dot."""
    parts = []
    for segment in segments(points):
        places = [f"{x_of(at_s):.1f} {y_of(value):.1f}" for at_s, value in segment]
        parts.append("M" + "L".join(places) + ("h0" if len(places) == 1 else ""))
    return "".join(parts)


def _in_words(line: ChartLine, show: Callable[[float], str]) -> str:
    of = line.series
    prefix = f"{line.name}: " if line.name else ""
    if of.median is None or of.highest is None or of.highest.value is None:
        return f"{prefix}nothing recorded"
    return f"{prefix}median {show(of.median)}, highest {show(of.highest.value)} at {clock(of.highest.at_s)}"


@dataclass(frozen=True, slots=True)
class TimelineMark:
    """Event on a timeline: ``exit`` or ``reconnect``, at a time, in words."""

    at_s: float
    name: str
    text: str


def timeline(spans: Sequence[tuple[str, float]], marks: Sequence[TimelineMark], total_s: float, title: str) -> Html:
    """Draw states over time: live as a thin line, everything else in full height, never narrower than 3 px.

    Args:
        spans: States in order, each with its duration, s.
        marks: Events.
        total_s: Length of the axis.
        title: Text in place of the picture.
    """
    total_s = max(total_s, 0.001)
    parts: list[Html] = []
    at_s = 0.0
    for state, seconds in _merged(spans, total_s):
        kind = kind_of(state)
        x, width = f"{100 * at_s / total_s:.2f}%", f"{100 * seconds / total_s:.2f}%"
        y, height = (7, 4) if kind == "live" else (2, 14)
        words = tag("title", f"{state_words(state)} for {seconds:.3g} s, from {clock(at_s)}")
        edge = None if kind == "live" else 2
        parts.append(tag("rect", words, x=x, y=y, width=width, height=height, class_=f"bar-{kind}", stroke_width=edge))
        at_s += seconds
    for mark in _folded(marks, total_s):
        x = f"{100 * min(mark.at_s / total_s, 1.0):.2f}%"
        style = "mark" if mark.name == "exit" else "mark-reconnect"
        y1, y2 = (0, 18) if mark.name == "exit" else (18, 23)
        parts.append(
            tag("line", tag("title", f"{clock(mark.at_s)} {mark.text}"), x1=x, x2=x, y1=y1, y2=y2, class_=style)
        )
    return tag("svg", parts, role="img", aria_label=title)


def _merged(spans: Sequence[tuple[str, float]], total_s: float) -> list[tuple[str, float]]:
    """Return at most a thousand spans; where several share a place, the worst one has it."""
    if len(spans) <= _MOST_SPANS:
        return list(spans)
    width = total_s / _MOST_SPANS
    worst = ["live"] * _MOST_SPANS
    at_s = 0.0
    for state, seconds in spans:
        last = min(int((at_s + seconds) / width), _MOST_SPANS - 1)
        for place in range(min(int(at_s / width), last), last + 1):
            worst[place] = max(worst[place], state, key=lambda one: RANKS[kind_of(one)])
        at_s += seconds
    merged: list[tuple[str, float]] = []
    for state in worst:
        if merged and merged[-1][0] == state:
            merged[-1] = (state, merged[-1][1] + width)
        else:
            merged.append((state, width))
    return merged


def _folded(marks: Sequence[TimelineMark], total_s: float) -> list[TimelineMark]:
    """Return at most one mark of a name at a place; it counts the others."""
    places: dict[tuple[str, int], list[TimelineMark]] = {}
    for mark in marks:
        places.setdefault((mark.name, int(mark.at_s / total_s * _MOST_MARKS)), []).append(mark)
    return [
        TimelineMark(of[0].at_s, of[0].name, of[0].text + (f", and {len(of) - 1} more" if len(of) > 1 else ""))
        for of in places.values()
    ]


def time_axis(total_s: float) -> Html:
    """Return the axis below timelines."""
    step = time_step(max(total_s, 1.0), 5)
    marks = range(0, int(total_s) + 1, step)
    parts = [
        tag(
            "text",
            time_mark(mark, step),
            x=f"{100 * mark / max(total_s, 1.0):.2f}%",
            y=12,
            text_anchor="start" if not mark else "end" if total_s - mark < step / 3 else "middle",
            class_="minor" if mark // step % 2 else None,
        )
        for mark in marks
    ]
    return tag("svg", parts, aria_hidden="true")


@dataclass(frozen=True, slots=True)
class RangeRow:
    """Row of a range chart.

    Attributes:
        name: What it is about.
        low: Beginning of the pale bar; ``high`` is its end.
        middle: End of the strong bar that begins at ``low``, with a dot.
        texts: Cells after the picture.
        style: ``line`` or ``past``.
    """

    name: str
    low: float | None
    middle: float | None
    high: float | None
    texts: Sequence[Content]
    style: str = "line"


def range_cell(row: RangeRow, scale: Scale) -> Html:
    """Draw one range on a scale."""
    parts = [tag("line", x1="0%", x2="100%", y1=21.5, y2=21.5, class_="grid")]
    if row.low is not None and row.high is not None:
        low, high = 100 * scale.share(row.low), 100 * scale.share(row.high)
        of = f"bar-{row.style}"
        parts.append(
            tag("rect", x=f"{low:.2f}%", y=8, width=f"{max(high - low, 0.6):.2f}%", height=6, class_=f"{of} pale")
        )
        if row.middle is not None:
            parts.append(tag("circle", cx=f"{100 * scale.share(row.middle):.2f}%", cy=11, r=4.5, class_=of))
    return tag("svg", parts, aria_hidden="true")


def range_axis(scale: Scale, show: Callable[[float], str]) -> Html:
    """Return the axis of a range chart."""
    parts = []
    ticks = scale.ticks()
    for index, tick in enumerate(ticks):
        share = scale.share(tick)
        style = "minor" if 0 < index < len(ticks) - 1 and index % 2 else None
        anchor = "start" if share < 0.05 else "end" if share > 0.95 else "middle"
        parts.append(tag("text", show(tick), x=f"{100 * share:.2f}%", y=12, text_anchor=anchor, class_=style))
    return tag("svg", parts, aria_hidden="true")


def plot_table(
    title: str, columns: Sequence[str], rows: Iterable[tuple[Content, Html, Sequence[Content]]], axis: Html
) -> Html:
    """Return a table with a picture in each row: name, picture, and the figures as text.

    Args:
        title: Name of the table.
        columns: Headings of name, picture and figures.
        rows: Name, picture and figures of each row.
        axis: Axis below the pictures.
    """
    head = [tag("th", name, scope="col", class_="n" if index > 1 else None) for index, name in enumerate(columns)]
    body = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag("td", drawn, class_="plot"),
            [tag("td", text, class_="n") for text in texts],
        )
        for name, drawn, texts in rows
    ]
    foot = tag("tr", tag("td"), tag("td", axis, class_="plot axis"), [tag("td") for _ in columns[2:]])
    whole = tag(
        "table", tag("thead", tag("tr", head)), tag("tbody", body), tag("tfoot", foot), aria_label=title, class_="plots"
    )
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=title)


def legend(entries: Iterable[tuple[str, str]]) -> Html:
    """Return a legend: class of the swatch, and its words."""
    return tag(
        "ul",
        [
            tag("li", tag("svg", tag("rect", y=1, width=14, height=10, class_=style), aria_hidden="true"), words)
            for style, words in entries
        ],
        class_="legend",
    )


def state_legend(states: Iterable[str]) -> Html:
    """Return the legend of the states that occur: colour, sign and word."""
    by_kind: dict[SpanKind, list[str]] = {}
    for state in dict.fromkeys(states):
        by_kind.setdefault(kind_of(state), []).append(state_words(state))
    kinds = sorted(by_kind, key=lambda kind: RANKS[kind])
    return legend((f"bar-{kind}", f"{sign_of(kind)} {', '.join(by_kind[kind])}") for kind in kinds)
