"""A study as one HTML file that needs nothing else: no server, no network; and a PNG of each chart.

Run as ``python -m dashboards.report STORAGE STUDY --to FILE [--png FOLDER] [--over]``: drawing has a process of its
own, so that a driver stays light.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from dashboards.charts import Chart, charts
from dashboards.drawing import draw
from dashboards.leaderboard import columns, rows
from sweep.cli.text import duration, number, setting, settings
from sweep.errors import SweepError
from sweep.layout import CONFIRMATION_SUFFIX, StudyLayout
from sweep.redaction import redact_streams
from sweep.spec import spec_text
from sweep.strict_json import strict_json
from sweep.study_files import read_spec, redactor_for, write_atomically
from sweep.study_view import StudyView, StudyWatch

WIDE = frozenset({"verdict", "parallel_coordinates", "timeline", "progress"})
"""Charts that take the whole width of the page."""

MOST_ROWS_WITHOUT_SCRIPTS = 20
_LONGEST_FACT = 400


def render(view: StudyView, drawn: Mapping[str, Chart] | None = None) -> str:
    """The report as HTML.

    Args:
        view: The study.
        drawn: Its charts, where they are made already.
    """
    drawn = charts(view) if drawn is None else drawn
    payload = {"charts": drawn, "columns": columns(view), "trials": rows(view), "best": view.facts.best}
    title = _text(f"Sweep report: {view.facts.study}")
    return "".join(
        [
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>",
            '<meta name=viewport content="width=device-width, initial-scale=1">',
            # The file says itself that it loads nothing; Plotly's parallel coordinates compile their shaders' bindings.
            "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'; "
            "script-src 'unsafe-inline' 'unsafe-eval'; img-src data: blob:\">",
            f"<style>{_own('report.css')}</style>",
            _header(view, drawn),
            "<main>",
            _verdict(view),
            _tiles(view),
            _leaderboard(view, payload),
            _charts(drawn),
            _rungs(view),
            _lineage(view),
            f"<footer>Written by Sweep {_text(str(view.environment.get('sweep', '')))} at {_moment(view.at)}. "
            f"Gains are over {_defaults(view)}; costs are the time on workers times the cores and GPUs "
            "that a trial holds; what pruning saved is an estimate.</footer></main>",
            f"<script type=application/json id=report>{_inline_json(payload)}</script>",
            f"<script>{_plotly()}</script><script>{_own('report.js')}</script></html>",
        ]
    )


def write_report(view: StudyView, to: Path, png: Path | None = None) -> None:
    """Write the report and, if wanted, a PNG of each chart, each file atomically.

    Raises:
        SweepError: If a file cannot be written.
    """
    drawn = charts(view)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        if png is not None:
            _write_pictures(drawn, png)
    except OSError as err:
        raise SweepError(f"{err.filename or png}: cannot be written ({err.strerror}). Mind rights and space.") from err
    write_atomically(to, render(view, drawn))


def _write_pictures(drawn: Mapping[str, Chart], folder: Path) -> None:
    scratch = folder / f".pictures-{os.getpid()}"
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        for position, (name, chart) in enumerate(drawn.items(), start=1):
            picture = scratch / f"{position:02d}-{_file_name(name)}.png"
            draw(chart, picture)
            picture.replace(folder / picture.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _header(view: StudyView, drawn: Mapping[str, Chart]) -> str:
    facts = view.facts
    links = {"trials": "Trials", "charts": "Charts", "rungs": "Rungs", "lineage": "Data and lineage"}
    if not view.rungs:
        del links["rungs"]
    nav = "".join(f"<a href=#{anchor}>{name}</a>" for anchor, name in links.items())
    lead = f"{facts.task} · {facts.model} · {facts.metric}, {facts.direction} · {facts.sampler}, {facts.pruner}"
    return (
        f"<header><h1>{_text(facts.study)} <span class=pill>{_text(facts.state)}</span></h1>"
        f"<p class=lead>{_text(lead)}</p><nav aria-label=Sections>{nav}</nav></header>"
    )


def _defaults(view: StudyView) -> str:
    is_final = view.facts.study.endswith(CONFIRMATION_SUFFIX)
    return "the run of the defaults on the same seed" if is_final else "trial 0, which holds the defaults"


def _verdict(view: StudyView) -> str:
    sentence = (view.verdict or {}).get("sentence")
    if not sentence:
        return ""
    sure = " sure" if (view.verdict or {}).get("is_significant") else ""
    return f'<p class="card verdict{sure}" id=verdict>{_text(str(sentence))}</p>'


def _tiles(view: StudyView) -> str:
    facts, spent = view.facts, view.spend
    best = next((trial for trial in view.trials if trial.number == facts.best), None)
    tiles = []
    if best is not None:
        gain = "" if facts.gain is None else f"{facts.gain:+.4f} over the defaults · "
        tiles.append(("best", number(best.value), f"{gain}trial {best.number}"))
        tiles.append(("its hyperparameters", "", settings(best.hyperparameters)))
        if best.test and facts.metric in best.test:
            tiles.append(("test split", number(best.test[facts.metric]), "opened for the winner and the defaults"))
    tiles.append(("defaults", number(facts.baseline_value), f"trial {facts.baseline or 0}"))
    counts = ", ".join(f"{count:,} {state.lower()}" for state, count in sorted(facts.counts.items()))
    tiles.append(("trials", f"{facts.finished:,} of {facts.trials:,}", counts or "none yet"))
    gpu = f" · {duration(spent.gpu_seconds)} of GPU" if spent.gpu_seconds else ""
    tiles.append(("spent", duration(spent.cpu_seconds), f"of CPU{gpu}"))
    if spent.saved_seconds:
        tiles.append(("saved by pruning", f"≈ {duration(spent.saved_cpu_seconds)}", "of CPU, an estimate"))
    made = "".join(
        f"<div class=tile><span class=name>{name}</span>{f'<b>{_text(figure)}</b>' if figure else '<br>'}"
        f"<span>{_text(what)}</span></div>"
        for name, figure, what in tiles
    )
    return f"<div class=tiles>{made}</div>"


def _charts(drawn: Mapping[str, Chart]) -> str:
    places = "".join(
        f'<div class="card chart{" wide" if name in WIDE else ""}" data-chart="{html.escape(name)}" '
        f'style="min-height:{int(chart["layout"]["height"]) + 16}px"></div>'
        for name, chart in drawn.items()
    )
    return f"<h2 id=charts>Charts</h2><div class=charts>{places}</div>"


def _leaderboard(view: StudyView, payload: Mapping[str, Any]) -> str:
    heads = "".join(
        f"<th class={each['kind']}><button type=button>{_text(each['name'])}</button></th>"
        for each in payload["columns"]
    )
    lines = "".join(
        "<tr>" + "".join(f"<td>{_text(_cell(cell))}</td>" for cell in row) + "</tr>"
        for row in payload["trials"][:MOST_ROWS_WITHOUT_SCRIPTS]
    )
    states = "".join(f"<option>{_text(state)}</option>" for state in sorted(view.facts.counts))
    return (
        "<h2>Trials</h2><div class=card id=trials><div class=tools>"
        "<label>find <input id=filter type=search></label>"
        f"<label>state <select id=state><option value=''>all</option>{states}</select></label><span id=count></span>"
        f"</div><div class=scroll><table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
        "<div class=tools><button id=more type=button hidden>show more</button></div></div>"
    )


def _rungs(view: StudyView) -> str:
    if not view.rungs:
        return ""
    unit = view.facts.fidelity_unit
    lines = "".join(
        f"<tr><td>{'full run' if rung.is_full_run else f'rung {position}'}</td><td class=number>{rung.fidelity:g}</td>"
        f"<td class=number>{rung.reached:,}</td><td class=number>{rung.cut:,}</td><td class=number>{number(rung.best)}"
        f"</td><td class=number>{'' if rung.best_trial is None else rung.best_trial}</td></tr>"
        for position, rung in enumerate(view.rungs, start=1)
    )
    names = (unit, "reached it", "were cut there", f"best {view.facts.metric} there", "trial")
    heads = "".join(f"<th class=number>{_text(name)}</th>" for name in names)
    return (
        "<h2 id=rungs>Rungs</h2><div class='card scroll'><table><thead><tr><th>level</th>"
        f"{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _lineage(view: StudyView) -> str:
    facts = view.facts
    study = {
        "task": facts.task,
        "base model": facts.model,
        "seed": facts.seed,
        "sampler": facts.sampler,
        "pruner": facts.pruner,
        "full run": f"{facts.full_run:g} {facts.fidelity_unit}",
        "began": None if facts.began_at is None else _moment(facts.began_at),
        "newest news": None if facts.last_at is None else _moment(facts.last_at),
        "storage": facts.storage,
        "MLflow": facts.tracking_uri,
        "parent run": facts.parent_run_id,
        "confirmation": facts.confirmation,
    }
    environment = {key: value for key, value in view.environment.items() if key != "packages"}
    parts = "".join(
        f"<div class=card><dl>{_facts(values)}</dl></div>" for values in (study, dict(view.data), environment) if values
    )
    return (
        f"<h2 id=lineage>Data and lineage</h2><div class=columns>{parts}</div>"
        f"<details class=card style='margin-top:14px'><summary>The spec, every default filled in</summary>"
        f"<pre>{_text(spec_text(view.spec) if view.spec else '')}</pre></details>"
    )


def _facts(values: Mapping[str, Any], prefix: str = "") -> str:
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines.append(_facts(value, f"{prefix}{key} "))
        elif value not in (None, "", []):
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else setting(value)
            text = text if len(text) <= _LONGEST_FACT else text[:_LONGEST_FACT] + "…"
            lines.append(f"<dt>{_text(prefix + str(key))}</dt><dd>{_text(text)}</dd>")
    return "".join(lines)


def _cell(cell: Any) -> str:
    return "" if cell is None else str(cell["text"] if isinstance(cell, Mapping) else cell)


def _text(text: str) -> str:
    return html.escape(text)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds").replace("+00:00", " UTC")


def _inline_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    compact = json.dumps(json.loads(strict_json(value)), separators=(",", ":"))
    return compact.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)[:100]


def _own(name: str) -> str:
    return files("dashboards").joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    return files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")


def main() -> int:
    """Write a report; 0, or the exit code of what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.report")
    parser.add_argument("storage", type=Path)
    parser.add_argument("study")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--png", type=Path)
    parser.add_argument("--over", action="store_true", help="its driver is at its end and asks for this")
    options = parser.parse_args()
    try:
        spec = read_spec(StudyLayout(options.storage, options.study))
        redact_streams(redactor_for(spec))
        with StudyWatch(spec, ignore_driver=options.over) as watch:
            write_report(watch.read(), options.to, options.png)
    except SweepError as err:
        sys.stderr.write(f"{err}\n")
        return err.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
