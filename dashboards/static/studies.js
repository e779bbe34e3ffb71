// The list of all studies, live.
import { API } from "./feed.js";
import { chip, duration, element, moment, score, signed } from "./format.js";

const SECONDS = 3;

function bar(study) {
  const total = Math.max(study.trials, Object.values(study.counts).reduce((a, b) => a + b, 0));
  const box = element("div", { class: "progress", role: "img", "aria-label": `${study.finished} of ${study.trials} trials finished` });
  for (const [state, number] of Object.entries(study.counts)) {
    const segment = element("i", { "data-state": state });
    segment.style.width = `${(100 * number) / total}%`;
    box.append(segment);
  }
  return box;
}

function row(study) {
  const name = element("a", { href: `/sweep/${encodeURIComponent(study.study)}` }, element("b", {}, study.study));
  if (study.problem) return element("tr", {}, element("td", {}, study.study), element("td", { colspan: 6, class: "error" }, study.problem));
  return element(
    "tr",
    {},
    element("td", {}, name, study.has_verdict ? element("span", { class: "tag win" }, "verdict") : null),
    element("td", {}, chip(study.state, study.state === "RUNNING")),
    element("td", {}, `${study.finished} of ${study.trials}`, bar(study)),
    element("td", { class: "num" }, `${study.metric} ${score(study.best_value)}`),
    element("td", { class: `num ${study.gain > 0 ? "good" : ""}` }, signed(study.gain)),
    element("td", { class: "num" }, study.gpu_seconds ? `${duration(study.gpu_seconds)} GPU` : `${duration(study.cpu_seconds)} CPU`),
    element("td", { class: "soft" }, moment(study.last_at)),
  );
}

async function show() {
  try {
    if (!document.hidden) {
      const { studies } = await (await fetch(`${API}/studies`, { cache: "no-cache" })).json();
      const text = JSON.stringify(studies);
      if (text !== show.text) document.getElementById("studies").replaceChildren(...studies.map(row));
      show.text = text;
      document.getElementById("empty").hidden = studies.length > 0;
      document.body.dataset.ready = "yes";
    }
  } catch {
    // The next look may find it again.
  }
  setTimeout(show, 1000 * SECONDS);
}

show();
