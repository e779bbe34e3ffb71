// The verdict of the confirmation: who won, by how much, and who cannot be told apart.
import { element, interval, percent, score, signed } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Mean and interval on a scale that all finalists share, each fresh seed a dot. */
function bar(finalist, low, high, tone) {
  const at = (value) => 3 + (94 * (value - low)) / (high - low || 1);
  const [from, to] = finalist.interval ?? [finalist.mean, finalist.mean];
  const words = `mean ${score(finalist.mean)}, interval ${interval(finalist.interval)}`;
  const box = svg("svg", { role: "img", "aria-label": words });
  const title = svg("title", {});
  title.textContent = words;
  box.append(title, svg("line", { x1: `${at(from)}%`, x2: `${at(to)}%`, y1: 13, y2: 13, stroke: tone, "stroke-width": 3, "stroke-linecap": "round" }));
  for (const value of Object.values(finalist.scores ?? {})) box.append(svg("circle", { cx: `${at(value)}%`, cy: 13, r: 2.5, fill: "var(--soft)", opacity: 0.6 }));
  box.append(svg("circle", { cx: `${at(finalist.mean)}%`, cy: 13, r: 6, fill: tone, stroke: "var(--card)", "stroke-width": 2 }));
  return box;
}

export function showVerdict(box, verdict) {
  box.hidden = !verdict;
  if (!verdict) return;
  const finalists = [...verdict.finalists].sort((a, b) => (a.rank ?? 99) - (b.rank ?? 99));
  const values = finalists.flatMap((each) => [...(each.interval ?? []), ...Object.values(each.scores ?? {}), each.mean]).filter((value) => Number.isFinite(value));
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const tied = new Set(verdict.tied ?? []);
  const rows = finalists.map((each) => {
    const isWinner = each.label === verdict.winner;
    const label = element("td", {}, each.trial_number === null ? each.label : element("a", { href: `#trial=${each.trial_number}` }, each.label));
    if (each.kind === "baseline") label.append(element("span", { class: "tag" }, "defaults"));
    if (isWinner) label.append(element("span", { class: "tag win" }, verdict.is_significant ? "winner" : "leads"));
    else if (tied.has(each.label)) label.append(element("span", { class: "tag" }, "tied"));
    if (each.dropped_after) label.append(element("span", { class: "tag" }, `dropped after ${each.dropped_after} seeds`));
    const gain = each.gain ? `${signed(each.gain.mean)} (${interval(each.gain.interval)})` : "–";
    return element(
      "tr",
      {},
      label,
      element("td", {}, score(each.mean)),
      element("td", {}, each.mean === null || each.mean === undefined ? "–" : bar(each, low, high, isWinner ? "var(--best)" : tied.has(each.label) ? "var(--accent)" : "var(--soft)")),
      element("td", {}, gain),
      element("td", {}, (each.gain?.probability_better ?? null) === null ? "–" : percent(each.gain.probability_better)),
      element("td", {}, each.search_score === null || each.search_score === undefined ? "–" : `${score(each.search_score)}${each.optimism ? ` (${signed(each.optimism)})` : ""}`),
    );
  });
  const heads = ["finalist", "mean", `${Math.round(100 * (1 - verdict.level))} % interval, fresh seeds`, "gain over the defaults", "better with", "in the search (optimism)"];
  const test = verdict.test;
  box.replaceChildren(
    element("header", {}, element("h2", {}, "Verdict"), element("p", {}, `${verdict.seeds} fresh seeds for each finalist; the score that got it here does not count`)),
    element("p", { class: "sentence" }, verdict.sentence),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Finalists" }, element("table", {}, element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))), element("tbody", {}, ...rows))),
    tied.size > 1 ? element("p", { class: "soft" }, `Cannot be told apart at this many seeds: ${[...tied].join(", ")}.`) : "",
    test ? element("p", {}, opened(test, verdict)) : element("p", { class: "soft" }, "The test split has not been opened."),
  );
}

function opened(test, verdict) {
  const metric = verdict.metric.name;
  const one = (side) => `${score(side.metrics?.[metric])} (${interval(side.interval)})`;
  const again = test.opened_at.length > 1 ? ` It was opened ${test.opened_at.length} times, so it is no longer quite fresh.` : "";
  const apart = test.difference ? `; difference ${signed(test.difference.mean)} (${interval(test.difference.interval)}), p = ${score(test.difference.p_value)}` : "";
  return `On the test split: winner ${one(test.winner)}${test.baseline ? `, defaults ${one(test.baseline)}` : ""}${apart}.${again}`;
}
