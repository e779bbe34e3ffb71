"""A chart as a picture: what :mod:`dashboards.charts` makes for Plotly, drawn by matplotlib; no browser, no network."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards.charts.style import GREY, Chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 110
WIDTH_INCHES = 9.0
_TAGS = re.compile(r"</?b>|<br>")
_DASHES = {"dash": (0, (5, 3)), "dot": (0, (1, 3))}
_SYMBOLS = {"star": "*", "diamond": "D"}


def draw(chart: Chart, path: Path) -> None:
    """Draw one chart into a PNG file."""
    # Not pyplot: it keeps every figure in a global list.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layout = chart["layout"]
    figure = Figure(figsize=(WIDTH_INCHES, layout.get("height", 380) / 85), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(_text(layout["title"]["text"]), fontsize=12, loc="left")
    if chart["data"] and chart["data"][0]["type"] == "parcoords":
        _draw_parallel(axes, chart["data"][0])
    else:
        _draw_cartesian(axes, chart)
    figure.savefig(path)


def _draw_cartesian(axes: Axes, chart: Chart) -> None:
    layout = chart["layout"]
    places = {name: _categories(chart, name) for name in ("x", "y")}
    for trace in chart["data"]:
        x, y = (_located(trace.get(name, ()), places[name]) for name in ("x", "y"))
        if trace["type"] == "bar":
            colours = trace["marker"]["color"]
            bars = axes.barh(y, x, left=trace.get("base"), height=0.7, color=colours, linewidth=0.3, edgecolor="white")
            bars.set_label(_text(trace.get("name", "")) or "_")
        else:
            _draw_scatter(axes, trace, x, y)
    for name, setter in (("x", axes.set_xlabel), ("y", axes.set_ylabel)):
        setter(_text(layout[f"{name}axis"]["title"]["text"]), fontsize=10)
    if layout["xaxis"].get("type") == "log":
        axes.set_xscale("log")
    if layout["yaxis"].get("range"):
        axes.set_ylim(*layout["yaxis"]["range"])
    if places["x"]:
        axes.set_xticks(range(len(places["x"])), [_text(each) for each in places["x"]])
        axes.set_xlim(-0.6, len(places["x"]) - 0.4)
    if places["y"]:
        axes.set_yticks(range(len(places["y"])), [_text(each) for each in places["y"]])
        axes.set_ylim(-0.6, len(places["y"]) - 0.4)
    for shape in layout.get("shapes", ()):
        line = shape["line"]
        dashes = _DASHES[line["dash"]]
        style = {"color": line["color"], "linewidth": line["width"], "linestyle": dashes, "zorder": 0}
        if shape.get("xref") == "paper":
            axes.axhline(shape["y0"], **style)
        else:
            axes.axvline(shape["x0"], **style)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    if layout.get("showlegend") and axes.get_legend_handles_labels()[0]:
        axes.legend(
            fontsize=8, loc="upper left", bbox_to_anchor=(0, -60 / layout.get("height", 380)), ncols=4, frameon=False
        )


def _draw_scatter(axes: Axes, trace: Mapping[str, Any], x: Sequence[Any], y: Sequence[Any]) -> None:
    marker, line = trace.get("marker", {}), trace.get("line", {})
    label = _text(trace.get("name", ""))
    opacity = trace.get("opacity", 1.0)
    colour = marker.get("color", line.get("color", GREY))
    if "lines" in trace["mode"]:
        gaps = ([float("nan") if value is None else value for value in values] for values in (x, y))
        axes.plot(
            *gaps,
            color=line["color"],
            linewidth=line.get("width", 1.5),
            linestyle=_DASHES.get(line.get("dash", ""), "-"),
            marker="." if "markers" in trace["mode"] else None,
            drawstyle="steps-post" if line.get("shape") == "hv" else "default",
            alpha=opacity,
            label=label,
        )
        return
    if "error_x" in trace:
        bars = trace["error_x"]
        axes.errorbar(x, y, xerr=[bars["arrayminus"], bars["array"]], fmt="none", ecolor="#555555", elinewidth=1.5)
    shape = _SYMBOLS.get(marker.get("symbol", ""), "o")
    size = marker.get("size", 6) ** 2 * (1.6 if shape == "*" else 0.7)
    axes.scatter(x, y, c=colour, s=size, marker=shape, alpha=opacity, label=label, linewidths=0)


def _draw_parallel(axes: Axes, trace: Mapping[str, Any]) -> None:
    import numpy as np
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    dimensions = trace["dimensions"]
    columns = [_unit_interval(each) for each in dimensions]
    lines = np.stack([np.column_stack([range(len(columns)), row]) for row in zip(*columns, strict=True)])
    colour = trace["line"]
    scale = LinearSegmentedColormap.from_list("score", [tuple(stop) for stop in colour["colorscale"]])
    scale = scale.reversed() if colour["reversescale"] else scale
    norm = Normalize(colour["cmin"], colour["cmax"], clip=True)
    values = np.asarray(colour["color"], dtype=float)
    # The best are drawn last, in front.
    order = np.argsort(-values if colour["reversescale"] else values)
    bundle = LineCollection(list(lines[order]), cmap=scale, norm=norm, linewidths=1.2, alpha=0.7)
    bundle.set_array(values[order])
    axes.add_collection(bundle)
    axes.set_xlim(-0.1, len(columns) - 0.9)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xticks(range(len(columns)), [_text(each["label"]) for each in dimensions])
    axes.xaxis.tick_top()
    axes.title.set_position((0, 1.12))
    axes.set_yticks([])
    for place, each in enumerate(dimensions):
        axes.axvline(place, color="#555555", linewidth=0.8)
        for height, text in _ticks(each):
            axes.annotate(text, (place, height), xytext=(4, 0), textcoords="offset points", fontsize=7, va="center")
    axes.spines[:].set_visible(False)
    axes.figure.colorbar(bundle, ax=axes, pad=0.02)


def _ends(dimension: Mapping[str, Any]) -> tuple[float, float]:
    values = [*dimension["values"], *dimension.get("tickvals", ())]
    low, high = min(values), max(values)
    return low, high if high > low else low + 1


def _unit_interval(dimension: Mapping[str, Any]) -> list[float]:
    low, high = _ends(dimension)
    return [(value - low) / (high - low) for value in dimension["values"]]


def _ticks(dimension: Mapping[str, Any]) -> list[tuple[float, str]]:
    low, high = _ends(dimension)
    if "tickvals" in dimension:
        pairs = zip(dimension["tickvals"], dimension["ticktext"], strict=True)
        return [((value - low) / (high - low), _text(text)) for value, text in pairs]
    return [(share, f"{low + share * (high - low):.3g}") for share in (0.0, 0.5, 1.0)]


def _categories(chart: Chart, name: str) -> list[str]:
    axis = chart["layout"][f"{name}axis"]
    if axis.get("type") != "category":
        return []
    seen = [value for trace in chart["data"] for value in trace.get(name, ())]
    return list(dict.fromkeys([*axis.get("categoryarray", ()), *seen]))


def _located(values: Sequence[Any], categories: Sequence[str]) -> list[Any]:
    places = {category: place for place, category in enumerate(categories)}
    return [places[value] for value in values] if categories else list(values)


def _text(text: str) -> str:
    """Plain text for matplotlib, which takes a dollar for the beginning of a formula."""
    return html.unescape(_TAGS.sub(" ", text)).replace("$", r"\$")
