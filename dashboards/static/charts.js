// The charts: each turns the study into what Plotly draws. Lines of many trials share one trace, parted by gaps.
import { duration, score, setting } from "./format.js";

const MANY = 400; // trials from which the graphics card draws the dots; lines of one trace are a single path anyway
const BAD = new Set(["FAILED", "OOM", "TIMEOUT", "DIVERGED"]);
const GROUPS = [
  { name: "pruned", has: (t) => t.state === "PRUNED" || t.state === "CANCELLED", colour: "--pruned", faint: true },
  { name: "failed", has: (t) => BAD.has(t.state), colour: "--bad", faint: true },
  { name: "unfinished", has: (t) => ["RUNNING", "PAUSED", "PENDING"].includes(t.state), colour: "--running" },
  { name: "complete", has: (t) => t.state === "COMPLETE", colour: "--complete" },
];

let loading = null;

/** Plotly itself: five megabytes, loaded when the first chart comes into sight. */
export function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "/sweep-files/plotly.min.js";
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("Plotly could not be loaded."));
    document.head.append(script);
  });
  return loading;
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function layout(extra) {
  const axis = { gridcolor: colour("--line"), zeroline: false, linecolor: colour("--line"), automargin: true };
  const { xaxis, yaxis, ...others } = extra;
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: colour("--soft") },
    margin: { l: 54, r: 12, t: 26, b: 42 },
    hovermode: "closest",
    hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink"), size: 12 } },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 11 } },
    uirevision: "kept",
    xaxis: { ...axis, ...xaxis },
    yaxis: { ...axis, ...yaxis },
    ...others,
  };
}

// Dragging zooms, a double click shows all: there is no need for a bar of buttons over each chart.
const CONFIG = { displayModeBar: false, responsive: true };

function opacity(feed) {
  const pruned = feed.facts.counts.PRUNED ?? 0;
  return Math.max(0.08, Math.min(0.6, 12 / Math.sqrt(pruned * 10 + 1)));
}

function describe(trial, space) {
  const drawn = space.map(({ name }) => `${name} ${setting(trial.hyperparameters[name])}`).join("<br>");
  return `<b>trial ${trial.number}</b> · ${trial.state.toLowerCase()} · ${score(trial.value)}<br>${drawn}`;
}

// Learning curves

function lines(trials, values = "values") {
  const trace = { x: [], y: [], customdata: [] };
  for (const trial of trials) {
    trial.fidelities.forEach((fidelity, index) => {
      trace.x.push(fidelity);
      trace.y.push(trial[values][index]);
      trace.customdata.push(trial.number);
    });
    trace.x.push(null);
    trace.y.push(null);
    trace.customdata.push(trial.number);
  }
  return trace;
}

export function curves(feed, selected) {
  const { facts, rungs } = feed;
  const cuts = rungs.filter((rung) => !rung.is_full_run);
  return whileTraining(feed, selected, "values", {
    yaxis: { title: { text: facts.metric } },
    shapes: cuts.map((rung) => ({ type: "line", x0: rung.fidelity, x1: rung.fidelity, yref: "paper", y0: 0, y1: 1, line: { color: colour("--soft"), width: 1, dash: "dot" } })),
    annotations: cuts.map((rung, index) => ({ x: rung.fidelity, yref: "paper", y: 0.01, yanchor: "bottom", xanchor: "left", showarrow: false, text: `rung ${index + 1}: ${rung.cut} of ${rung.reached} cut`, textangle: -90, bgcolor: colour("--card"), opacity: 0.85, font: { size: 10, color: colour("--soft") } })),
  });
}

/** Validation loss less training loss: it rises as a model learns its rows by heart. */
export function gaps(feed, selected) {
  const none = { type: "line", xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0, line: { color: colour("--soft"), width: 1 } };
  return whileTraining(feed, selected, "gaps", { yaxis: { title: { text: "gap of the losses" } }, shapes: [none] });
}

function whileTraining(feed, selected, values, extra) {
  const { facts } = feed;
  const trials = [...feed.trials.values()].filter((trial) => trial.fidelities.length);
  const isMany = trials.length > MANY;
  const at = facts.fidelity_unit === "folds" ? "fold %{x}" : `%{x} ${facts.fidelity_unit}`;
  const style = { type: "scatter", mode: isMany ? "lines" : "lines+markers", hovertemplate: `trial %{customdata}<br>${at} · %{y:.4f}<extra></extra>` };
  const data = GROUPS.map((group) => ({
    ...style,
    ...lines(trials.filter((t) => group.has(t) && t !== feed.best && t.number !== facts.baseline), values),
    name: group.name,
    opacity: group.faint ? opacity(feed) : isMany ? 0.35 : 0.85,
    line: { color: colour(group.colour), width: group.faint || isMany ? 1 : 1.5 },
    marker: { color: colour(group.colour), size: group.faint ? 3 : 5 },
  })).filter((trace) => trace.x.length);
  const marked = (trial, name, tone, dash, width) =>
    trial && trial.fidelities.length
      ? [{ ...style, ...lines([trial], values), mode: "lines+markers", name, line: { color: colour(tone), width, dash }, marker: { color: colour(tone), size: 7 } }]
      : [];
  data.push(...marked(feed.trials.get(facts.baseline), `defaults (trial ${facts.baseline})`, "--ink", "dash", 2));
  if (!feed.best?.is_baseline) data.push(...marked(feed.best, `best (trial ${feed.best?.number})`, "--best", "solid", 3));
  data.push(...marked(feed.trials.get(selected), `trial ${selected}`, "--accent", "solid", 4));
  return { data, layout: layout({ xaxis: { title: { text: `trained (${facts.fidelity_unit})` }, range: [0, facts.full_run * 1.03] }, ...extra }) };
}

// Each hyperparameter against the score

function labelled(value) {
  return Array.isArray(value) || typeof value === "boolean" || value === null ? setting(value) : value;
}

export function hyperparameters(feed, selected, width) {
  const { facts, about } = feed;
  const space = about.space;
  const rows = Math.ceil(space.length / (width < 560 ? 1 : width < 900 ? 2 : 3));
  const columns = Math.max(1, Math.ceil(space.length / rows));
  const trials = [...feed.trials.values()].filter((trial) => trial.value !== null);
  const type = trials.length > MANY ? "scattergl" : "scatter";
  const data = [];
  const axes = {};
  space.forEach((each, index) => {
    const suffix = index ? String(index + 1) : "";
    const own = { type, mode: "markers", xaxis: `x${suffix}`, yaxis: `y${suffix}`, hovertemplate: "%{text}<extra></extra>" };
    const points = (chosen) => ({
      x: chosen.map((t) => labelled(t.hyperparameters[each.name])),
      y: chosen.map((t) => t.value),
      customdata: chosen.map((t) => t.number),
      text: chosen.map((t) => describe(t, space)),
    });
    for (const group of GROUPS) {
      const chosen = trials.filter((t) => group.has(t));
      if (!chosen.length) continue;
      data.push({ ...own, ...points(chosen), name: group.name, legendgroup: group.name, showlegend: index === 0, opacity: group.faint ? Math.max(0.25, opacity(feed)) : 0.9, marker: { color: colour(group.colour), size: group.faint ? 6 : 8 } });
    }
    const stars = [[feed.best, "best", "--best", "star", 14], [feed.trials.get(facts.baseline), "defaults", "--ink", "diamond-open", 11], [feed.trials.get(selected), "selected", "--accent", "circle-open", 16]];
    for (const [trial, name, tone, symbol, size] of stars) {
      if (!trial || trial.value === null) continue;
      data.push({ ...own, ...points([trial]), name, legendgroup: name, showlegend: index === 0, marker: { color: colour(tone), size, symbol, line: { width: 2, color: colour(tone) } } });
    }
    const isText = each.kind === "choice";
    axes[`xaxis${suffix}`] = { title: { text: each.name, standoff: 4 }, ...(isText ? { categoryorder: "array", categoryarray: each.choices.map(labelled) } : {}), type: isText ? "category" : each.log ? "log" : "linear", gridcolor: colour("--line"), zeroline: false, automargin: true, exponentformat: "power", dtick: each.log && each.high / each.low < 1e8 ? 1 : undefined, anchor: `y${suffix}` };
    axes[`yaxis${suffix}`] = { gridcolor: colour("--line"), zeroline: false, automargin: true, anchor: `x${suffix}`, ...(index % columns === 0 ? { title: { text: facts.metric } } : {}), ...(index ? { matches: "y" } : {}) };
  });
  return { data, layout: layout({ grid: { rows, columns, pattern: "independent", xgap: 0.14, ygap: rows > 1 ? 0.34 : 0 }, height: 70 + 230 * rows, ...axes, margin: { l: 54, r: 12, t: 34, b: 48 } }) };
}

// Parallel coordinates

function dimension(each, trials) {
  const values = trials.map((trial) => trial.hyperparameters[each.name]);
  if (each.kind === "choice") {
    const texts = each.choices.map(setting);
    return { label: each.name, values: values.map((value) => texts.indexOf(setting(value))), tickvals: texts.map((_, i) => i), ticktext: texts, range: [0, texts.length - 1] };
  }
  if (!each.log) return { label: each.name, values };
  const [low, high] = [Math.log10(each.low), Math.log10(each.high)];
  const ticks = Array.from({ length: 5 }, (_, i) => low + ((high - low) * i) / 4);
  return { label: `${each.name} (log)`, values: values.map((value) => (value > 0 ? Math.log10(value) : low)), tickvals: ticks, ticktext: ticks.map((tick) => (10 ** tick).toExponential(1)) };
}

export function parallel(feed, selected, width) {
  const { facts, about } = feed;
  const trials = [...feed.trials.values()].filter((trial) => trial.value !== null);
  // The best are drawn last, over the others.
  const sign = facts.direction === "maximize" ? 1 : -1;
  trials.sort((a, b) => sign * (a.value - b.value));
  const scores = trials.map((trial) => trial.value);
  const sorted = [...scores].sort((a, b) => a - b);
  const quantile = (share) => sorted[Math.floor(share * (sorted.length - 1))];
  const scale = [[0, colour("--line")], [0.5, colour("--accent")], [1, colour("--best")]];
  const dimensions = [...about.space.map((each) => dimension(each, trials)), { label: facts.metric, values: scores }];
  return {
    data: [
      {
        type: "parcoords",
        dimensions,
        line: { color: scores, colorscale: scale, reversescale: sign < 0, cmin: sign > 0 ? quantile(0.1) : sorted[0], cmax: sign > 0 ? sorted.at(-1) : quantile(0.9), showscale: width > 600, colorbar: { thickness: 10, outlinewidth: 0 } },
        unselected: { line: { opacity: 0.06 } },
        labelfont: { color: colour("--ink"), size: width < 600 ? 10 : 12 },
        labelangle: width < 600 ? -14 : 0,
        tickfont: { color: colour("--soft"), size: 10 },
        rangefont: { color: "rgba(0,0,0,0)", size: 1 },
      },
    ],
    layout: layout({ margin: { l: width < 600 ? 46 : 70, r: width < 600 ? 30 : 40, t: 46, b: 22 }, height: 340 }),
  };
}

// Importance

export function importance(shares) {
  const names = Object.keys(shares).reverse();
  return {
    data: [{ type: "bar", orientation: "h", y: names, x: names.map((name) => shares[name]), text: names.map((name) => `${Math.round(100 * shares[name])} %`), textposition: "auto", textangle: 0, marker: { color: colour("--accent") }, hovertemplate: "%{y}: %{text}<extra></extra>" }],
    layout: layout({ height: 90 + 42 * names.length, margin: { l: 10, r: 16, t: 8, b: 34 }, xaxis: { tickformat: ".0%", rangemode: "tozero" }, yaxis: { gridcolor: "rgba(0,0,0,0)" } }),
  };
}

// Workers

export function timeline(feed, selected) {
  const now = Date.now() / 1000;
  const spans = [...feed.trials.values()].flatMap((trial) => trial.spans.map(([worker, begin, end, how, isBad]) => ({ trial, worker, begin, end: end ?? now, how, isBad })));
  const workers = [...new Set(spans.map((span) => span.worker))].sort((a, b) => b.localeCompare(a, undefined, { numeric: true }));
  const groups = [
    { name: "complete", has: (s) => !s.isBad && s.trial.state === "COMPLETE", colour: "--complete" },
    { name: "pruned", has: (s) => !s.isBad && ["PRUNED", "CANCELLED"].includes(s.trial.state), colour: "--pruned" },
    { name: "unfinished", has: (s) => !s.isBad && ["RUNNING", "PAUSED", "PENDING"].includes(s.trial.state), colour: "--running" },
    { name: "lost or failed", has: (s) => s.isBad || BAD.has(s.trial.state), colour: "--bad" },
  ];
  const width = Math.max(5, Math.min(18, 220 / Math.max(1, workers.length)));
  const traced = (chosen, name, tone, thick) => {
    const trace = { type: "scatter", mode: "lines", name, x: [], y: [], customdata: [], text: [], line: { color: colour(tone), width: thick }, hovertemplate: "%{text}<extra></extra>" };
    for (const span of chosen) {
      const text = `<b>trial ${span.trial.number}</b> on ${span.worker}<br>${span.how.toLowerCase()} after ${duration(span.end - span.begin)}`;
      // A hair apart, so that two bars in a row can be told from one.
      const inset = Math.min(0.15, (span.end - span.begin) / 8);
      for (const at of [span.begin + inset, (span.begin + span.end) / 2, span.end - inset]) {
        trace.x.push(new Date(at * 1000));
        trace.y.push(span.worker);
        trace.customdata.push(span.trial.number);
        trace.text.push(text);
      }
      trace.x.push(null);
      trace.y.push(null);
      trace.customdata.push(span.trial.number);
      trace.text.push("");
    }
    return trace;
  };
  const data = groups.map((group) => traced(spans.filter(group.has), group.name, group.colour, width)).filter((trace) => trace.x.length);
  const own = spans.filter((span) => span.trial.number === selected);
  if (own.length) data.push(traced(own, `trial ${selected}`, "--best", width / 2));
  return {
    data,
    isEmpty: !spans.length,
    layout: layout({ height: Math.min(900, 110 + 34 * Math.max(2, workers.length)), xaxis: { type: "date" }, yaxis: { type: "category", categoryorder: "array", categoryarray: workers, gridcolor: "rgba(0,0,0,0)" } }),
  };
}

/** Draw a figure, or draw it anew; a click on a trial selects it. */
export async function draw(box, figure, chosen) {
  const Plotly = await plotly();
  await Plotly.react(box, figure.data, figure.layout, CONFIG);
  if (chosen && !box.dataset.listens) {
    box.dataset.listens = "yes";
    box.on("plotly_click", (event) => {
      const number = event.points[0]?.customdata;
      if (typeof number === "number") chosen(number);
    });
  }
}
