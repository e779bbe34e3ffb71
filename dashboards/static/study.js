// The page of one study: puts what the feed says into each part, and draws the charts that are in sight.
import { addTrials, enqueue, stopStudy, stopTrial } from "./actions.js";
import * as charts from "./charts.js";
import { Feed } from "./feed.js";
import { chip, count, duration, element, moment, percent, score, setting, signed } from "./format.js";
import { Leaderboard, mlflowUrl, runUrl } from "./leaderboard.js";
import { showVerdict } from "./verdict.js";

const STUDY = decodeURIComponent(location.pathname.split("/")[2]);
const UNFINISHED = ["RUNNING", "PENDING", "PAUSED"];
const ORDER = ["COMPLETE", "PRUNED", "RUNNING", "PAUSED", "PENDING", "CANCELLED", "FAILED", "OOM", "TIMEOUT", "DIVERGED"];
const REDRAW_SECONDS = 2;
const part = (id) => document.getElementById(id);

let selected = null;

const feed = new Feed(STUDY, (hasNewTrials) => show(hasNewTrials), (problem) => {
  part("gone").textContent = problem ?? "";
  part("gone").hidden = !problem;
});
const board = new Leaderboard(part("grid-box"), part("chips"), part("search"), select);

// What is said in words

function show(hasNewTrials) {
  const { facts } = feed;
  document.title = `${STUDY} · ${facts.finished}/${facts.trials} · Sweep`;
  part("state").replaceChildren(chip(facts.state, facts.state === "RUNNING"));
  showLinks();
  showHeadline();
  showTiles();
  showActions();
  board.show(feed);
  part("gaps-card").hidden = !feed.hasGaps;
  showDetail();
  showVerdict(part("verdict"), feed.about.verdict);
  showSpend();
  showData();
  if (!show.isInteractive) {
    show.isInteractive = true;
    document.body.dataset.ready = "yes";
    performance.mark("sweep:interactive");
    fromAddress();
    watchCharts();
  } else if (hasNewTrials) redraw();
}

function showLinks() {
  const { experiment_id: experiment, metric, direction } = feed.facts;
  const order = `orderByKey=metrics.%60objective_value%60&orderByAsc=${direction === "minimize"}`;
  part("to-mlflow").href = experiment ? `${mlflowUrl(feed)}#/experiments/${experiment}/runs?workflowType=machine_learning&${order}` : mlflowUrl(feed);
  part("to-optuna").href = `/optuna/${encodeURIComponent(STUDY)}`;
}

function showHeadline() {
  const { facts, best } = feed;
  const baseline = facts.baseline_value;
  const words = [];
  const winner = confirmedWinner();
  if (winner) {
    const name = winner.trial_number === null ? winner.label : link(winner.trial_number, `Trial ${winner.trial_number}`);
    const verb = feed.about.verdict.is_significant ? "wins" : "leads, not significantly,";
    words.push(name, ` ${verb} on fresh seeds with ${facts.metric} `, element("b", {}, score(winner.mean)));
    if (winner.gain) words.push(", ", element("b", { class: winner.gain.mean > 0 ? "good" : "worse" }, signed(winner.gain.mean)), " over the defaults");
    words.push(".");
  } else if (!best) {
    const running = facts.counts.RUNNING ? `, ${count(facts.counts.RUNNING, "trial")} running` : "";
    words.push(`No trial is complete yet${running}.`);
  } else if (best.is_baseline) {
    words.push("The ", element("b", {}, "defaults"), " still lead with ", facts.metric, " ", element("b", {}, score(best.value)), ".");
  } else {
    words.push(link(best.number, `Trial ${best.number}`), ` leads with ${facts.metric} `, element("b", {}, score(best.value)));
    if (best.name) words.push(` (${best.name})`);
    if (best.gain !== null) words.push(", ", element("b", { class: best.gain > 0 ? "good" : "worse" }, signed(best.gain)), ` over the defaults (${score(baseline)})`);
    words.push(".");
  }
  part("headline").replaceChildren(...words);
  const states = Object.entries(facts.counts).sort(([a], [b]) => ORDER.indexOf(a) - ORDER.indexOf(b));
  const total = Math.max(facts.trials, feed.trials.size);
  part("progress").replaceChildren(
    ...states.map(([state, number]) => {
      const segment = element("i", { "data-state": state });
      segment.style.width = `${(100 * number) / total}%`;
      return segment;
    }),
  );
  part("progress").setAttribute("aria-label", `${facts.finished} of ${facts.trials} trials finished`);
  part("legend").replaceChildren(
    element("li", {}, element("b", {}, `${facts.finished} of ${facts.trials}`), " trials finished"),
    ...states.map(([state, number]) => element("li", {}, chip(state), ` ${number}`)),
  );
}

function showTiles() {
  const { facts, spend, best, eta } = feed;
  const device = facts.gpus_per_trial > 0 ? ["GPU", spend.gpu_seconds] : ["CPU", spend.cpu_seconds];
  const whole = spend.seconds + spend.saved_seconds;
  const found = best ? `trial ${best.number}` : "";
  const tiles = [
    ["Best of the search", best ? score(best.value) : "–", confirmedWinner() || !best ? found : `${found}, not confirmed on fresh seeds`],
    [`Defaults (trial ${facts.baseline ?? 0})`, score(facts.baseline_value), facts.gain === null ? "" : `gain ${signed(facts.gain)}`],
    [`${device[0]} time`, duration(device[1]), `on workers ${duration(spend.seconds)}`],
    ["Saved by pruning", whole ? percent(spend.saved_seconds / whole) : "–", whole ? `about ${duration(spend.saved_seconds)} not trained` : ""],
    facts.state === "RUNNING" ? ["Time left", eta === null ? "–" : `≈ ${duration(eta)}`, "at the pace so far"] : ["Last heard of", facts.last_at ? new Date(facts.last_at * 1000).toLocaleDateString() : "–", facts.last_at ? new Date(facts.last_at * 1000).toLocaleTimeString() : ""],
  ];
  part("tiles").replaceChildren(...tiles.map(([name, value, more]) => element("div", {}, element("dt", {}, name), element("dd", {}, value, element("small", {}, more)))));
}

function showActions() {
  const isRunning = feed.facts.state === "RUNNING";
  if (showActions.shown === isRunning) return;
  showActions.shown = isRunning;
  const button = (text, act, kind) => element("button", { type: "button", class: kind, onclick: act }, text);
  part("actions").replaceChildren(
    ...(isRunning
      ? [button("Try a configuration …", () => enqueue(STUDY, feed)), button("Add trials …", () => addTrials(STUDY, feed)), button("Stop the study …", () => stopStudy(STUDY), "danger")]
      : [element("p", {}, "Nobody drives this study now. Go on with it: ", element("code", {}, `sweep resume ${STUDY}`), ", or with a larger budget: ", element("code", {}, `sweep resume ${STUDY} --trials ${feed.facts.trials + 12}`))]),
  );
}

/** Who the confirmation says is best: scores on fresh seeds count, those of the search do not. */
function confirmedWinner() {
  const { verdict } = feed.about;
  return verdict?.finalists.find((each) => each.label === verdict.winner) ?? null;
}

function link(number, text) {
  return element("a", { href: `#trial=${number}` }, text);
}

// One trial

function select(number) {
  if (number === selected) return;
  history.replaceState(null, "", number === null ? location.pathname : `#trial=${number}`);
  choose(number);
}

function choose(number) {
  selected = number !== null && feed.trials.has(number) ? number : null;
  board.select(selected);
  showDetail();
  redraw();
}

function fromAddress() {
  const found = /^#trial=(\d+)$/.exec(location.hash);
  if (found) {
    choose(Number(found[1]));
    part("leaderboard").scrollIntoView();
  }
}

function terms(pairs) {
  return element("dl", { class: "facts" }, ...pairs.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

function showDetail() {
  const box = part("detail");
  const trial = feed.trials.get(selected);
  box.hidden = !trial;
  part("board").classList.toggle("open", Boolean(trial));
  if (!trial) return;
  // A trial that has no news itself gets another rank, and other buttons, by what others do.
  const { state, counts, experiment_id: experiment } = feed.facts;
  const around = JSON.stringify([trial.rank, trial.rank && counts.COMPLETE, state, experiment]);
  if (showDetail.shown === trial && showDetail.around === around) return;
  const focused = box.contains(document.activeElement) ? document.activeElement.textContent : null;
  Object.assign(showDetail, { shown: trial, around });
  box.dataset.trial = String(selected);
  const run = runUrl(feed, trial);
  const metrics = Object.entries(trial.metrics).map(([name, value]) => [name, score(value)]);
  const tests = Object.entries(trial.test ?? {}).map(([name, value]) => [`test ${name}`, score(value)]);
  const at = feed.facts.fidelity_unit === "folds" ? `after fold ${trial.fidelities.at(-1)}` : `at step ${trial.step}`;
  const close = element("button", { type: "button", class: "icon", "aria-label": "Close", onclick: () => { select(null); part("grid").focus(); } }, "✕");
  const spans = trial.spans.map(([worker, begin, end, how, isBad]) =>
    element("li", { class: isBad ? "error" : null }, `${worker}: ${how.toLowerCase()}${end ? ` after ${duration(end - begin)}` : ` since ${new Date(begin * 1000).toLocaleTimeString()}`}`),
  );
  box.replaceChildren(
    element("header", {}, element("h3", {}, `Trial ${trial.number}`), chip(trial.state), close),
    terms([[feed.facts.metric, score(trial.value)], ...(trial.name ? [["trains anew", trial.name]] : []), ...(trial.is_baseline ? [] : [["gain", signed(trial.gain)]]), ...(trial.rank ? [["rank", `${trial.rank} of ${feed.facts.counts.COMPLETE}`]] : []), ["cost", duration(trial.seconds)]]),
    element("h3", {}, "Hyperparameters"),
    terms(feed.about.space.map(({ name }) => [name, setting(trial.hyperparameters[name])])),
    ...(metrics.length ? [element("h3", {}, `Metrics ${at}`), terms([...metrics, ...tests])] : []),
    ...(spans.length ? [element("h3", {}, count(trial.attempts, "attempt")), element("ul", {}, ...spans)] : []),
    ...(trial.error ? [element("p", { class: "error" }, trial.error)] : []),
    element(
      "div",
      { class: "actions" },
      run ? element("a", { class: "button", href: run }, "Run in MLflow") : element("span", { class: "soft" }, "Not in MLflow yet"),
      feed.facts.state === "RUNNING" ? element("button", { type: "button", onclick: () => enqueue(STUDY, feed, trial) }, "Vary …") : null,
      feed.facts.state === "RUNNING" && UNFINISHED.includes(trial.state) ? element("button", { type: "button", class: "danger", onclick: () => stopTrial(STUDY, trial.number) }, "Stop trial …") : null,
    ),
  );
  if (focused !== null) ([...box.querySelectorAll("a, button")].find((each) => each.textContent === focused) ?? close).focus();
}

// Spend and data

function showSpend() {
  const { spend, facts } = feed;
  const whole = spend.seconds + spend.saved_seconds || 1;
  const parts = Object.entries(spend.by_state).sort(([a], [b]) => ORDER.indexOf(a) - ORDER.indexOf(b)).filter(([, seconds]) => seconds > 0);
  const segment = (seconds, attributes) => {
    const made = element("i", attributes);
    made.style.width = `${(100 * seconds) / whole}%`;
    return made;
  };
  part("spend-bar").replaceChildren(...parts.map(([state, seconds]) => segment(seconds, { "data-state": state })), spend.saved_seconds ? segment(spend.saved_seconds, { class: "saved" }) : "");
  part("spend-legend").replaceChildren(
    ...parts.map(([state, seconds]) => element("li", { "data-state": state }, element("span", { class: "swatch" }), `${state.toLowerCase()} ${duration(seconds)}`)),
    element("li", {}, element("span", { class: "swatch saved" }), `saved by pruning, about ${duration(spend.saved_seconds)}`),
  );
  const rows = [["on workers", duration(spend.seconds)], ["CPU time", duration(spend.cpu_seconds)]];
  if (facts.gpus_per_trial > 0) rows.push(["GPU time", duration(spend.gpu_seconds)]);
  rows.push(["lost in bad attempts", duration(spend.lost_seconds)], ["per complete trial", duration((spend.by_state.COMPLETE ?? 0) / (facts.counts.COMPLETE || 1))]);
  part("spend-facts").replaceChildren(...terms(rows).children);
}

function showData() {
  const { facts } = feed;
  const changing = JSON.stringify([facts.undelivered, facts.began_at, facts.holder, facts.confirmation]);
  if (showData.shown === feed.about && showData.changing === changing) return;
  Object.assign(showData, { shown: feed.about, changing });
  const { data, environment, spec } = feed.about;
  const rows = Object.entries(data.rows ?? {}).map(([split, number]) => `${split} ${Number(number).toLocaleString("en")}`).join(" · ");
  part("data-facts").replaceChildren(
    ...terms([
      ["task", facts.task],
      ["model", facts.model],
      ["data", data.data_name ?? spec.objective?.data?.source ?? "own files"],
      ["rows", rows || "–"],
      ["labels", (data.labels ?? []).slice(0, 12).join(", ") || "–"],
      ["data hash", element("code", {}, String(data.data_hash ?? "–").slice(0, 16))],
      ["sampler, pruner", `${facts.sampler}, ${facts.pruner} (seed ${facts.seed})`],
      ["metric", `${facts.metric}, ${facts.direction}, ${facts.source} evaluation`],
      ["storage", facts.storage],
      ["record", facts.undelivered ? `${facts.tracking_uri} (${count(facts.undelivered, "record")} on the way)` : facts.tracking_uri],
      ["began", moment(facts.began_at)],
      ...(facts.holder ? [["driver", facts.holder]] : []),
      ...(facts.confirmation ? [["confirmation", element("a", { href: `/sweep/${encodeURIComponent(facts.confirmation)}` }, facts.confirmation)]] : []),
    ]).children,
  );
  part("warnings").replaceChildren(...(data.warnings ?? []).map((warning) => element("li", {}, warning)));
  part("spec").textContent = yaml(spec);
  part("environment").textContent = yaml(environment);
}

/** Plain values, indented as people write them in YAML. */
function yaml(value, indent = "") {
  if (value === null || typeof value !== "object") return String(value);
  if (Array.isArray(value)) return `[${value.map((item) => (typeof item === "object" ? JSON.stringify(item) : item)).join(", ")}]`;
  return Object.entries(value)
    .map(([key, item]) => (item && typeof item === "object" && !Array.isArray(item) ? `${indent}${key}:\n${yaml(item, `${indent}  `)}` : `${indent}${key}: ${yaml(item)}`))
    .join("\n");
}

// Charts: drawn when they come into sight, and again when there is news of them

const FIGURES = {
  curves: (box) => charts.draw(box, charts.curves(feed, selected), select),
  gaps: (box) => charts.draw(box, charts.gaps(feed, selected), select),
  hyperparameters: (box) => charts.draw(box, charts.hyperparameters(feed, selected, box.clientWidth), select),
  parallel: (box) => charts.draw(box, charts.parallel(feed, selected, box.clientWidth)),
  importance: (box) => drawImportance(box),
  timeline: (box) => drawTimeline(box),
};
const LATER = "later";
const inSight = new Set();
const stale = new Set();

function watchCharts() {
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const id = entry.target.id.replace("-card", "");
      if (entry.isIntersecting) inSight.add(id);
      else inSight.delete(id);
    }
    drawStale();
  }, { rootMargin: "300px" });
  for (const id of Object.keys(FIGURES)) {
    stale.add(id);
    observer.observe(part(`${id}-card`));
  }
  document.addEventListener("sweep:theme", redraw);
  matchMedia("(max-width: 600px)").addEventListener("change", redraw);
}

function redraw() {
  for (const id of Object.keys(FIGURES)) stale.add(id);
  clearTimeout(redraw.timer);
  const wait = Math.max(0, 1000 * REDRAW_SECONDS - (performance.now() - (redraw.last ?? -Infinity)));
  redraw.timer = setTimeout(drawStale, feed.trials.size > 1000 ? wait : 0);
}

async function drawStale() {
  redraw.last = performance.now();
  for (const id of [...stale].filter((each) => inSight.has(each))) {
    stale.delete(id);
    try {
      if ((await FIGURES[id](part(id))) !== LATER) part(id).dataset.drawn = "yes";
    } catch (problem) {
      part(id).textContent = `This chart could not be drawn: ${problem.message}`;
    }
    // One after the other, so that the page answers in between.
    await new Promise((resolve) => setTimeout(resolve));
  }
}

async function drawImportance(box) {
  const answer = await (await fetch(`${feed.url}/importance`)).json();
  if (!answer.is_ready) {
    setTimeout(() => { stale.add("importance"); drawStale(); }, 700);
    return LATER;
  }
  const shares = answer.shares ?? {};
  const isEmpty = !Object.keys(shares).length;
  part("importance-note").textContent = isEmpty ? "Too few trials can be compared yet." : `PED-ANOVA: what tells the best tenth of ${count(answer.trials, "trial")} from the others, after ${answer.fidelity} ${feed.facts.fidelity_unit}`;
  box.hidden = isEmpty;
  if (!isEmpty) await charts.draw(box, charts.importance(shares));
}

async function drawTimeline(box) {
  const figure = charts.timeline(feed, selected);
  part("timeline-empty").hidden = !figure.isEmpty;
  box.hidden = figure.isEmpty;
  if (!figure.isEmpty) await charts.draw(box, figure, select);
}

addEventListener("hashchange", fromAddress);
feed.poll();
