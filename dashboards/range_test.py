"""A range test of the learning rate as a picture: ``python -m dashboards.range_test FILE`` with its JSON on stdin."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dashboards.charts.style import BLUE, GREEN, GREY, Chart, layout_of
from dashboards.drawing import draw


def range_chart(found: Mapping[str, Any]) -> Chart:
    """Training loss by learning rate, with the range that was found.

    Args:
        found: What :meth:`sweep.ports.RateFinding.find_learning_rate` gives.
    """
    layout = layout_of("Learning-rate range test", "learning rate", "training loss")
    layout["xaxis"]["type"] = "log"
    line = {"color": GREEN, "width": 1.5, "dash": "dash"}
    layout["shapes"] = [
        {"type": "line", "x0": found[end], "x1": found[end], "y0": 0, "y1": 1, "yref": "paper", "line": line}
        for end in ("low", "high")
    ]
    low, high = min(found["smoothed"]), max(found["smoothed"][0], *found["losses"][: len(found["losses"]) // 2])
    layout["yaxis"]["range"] = [low - 0.1 * (high - low), high + 0.2 * (high - low)]
    data = [
        {"type": "scatter", "mode": "lines", "name": name, "x": found["rates"], "y": found[key], "line": style}
        for name, key, style in (
            ("each step", "losses", {"color": GREY, "width": 1}),
            ("smoothed", "smoothed", {"color": BLUE, "width": 2.5}),
        )
    ]
    return {"data": data, "layout": layout}


def main() -> None:
    """Write the picture; its extension says which kind."""
    found, path = json.load(sys.stdin), Path(sys.argv[1])
    chart = range_chart(found)
    if path.suffix == ".png":
        draw(chart, path)
    else:
        from plotly.io import write_html

        write_html(chart, path, validate=False)


if __name__ == "__main__":
    main()
