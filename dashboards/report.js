"use strict";
// Everything a user chose is set as text, never as HTML.
const report = JSON.parse(document.getElementById("report").textContent);
const PAGE = 10;

function theme() {
  const style = getComputedStyle(document.documentElement);
  return { "font.color": style.getPropertyValue("--ink").trim(), "paper_bgcolor": style.getPropertyValue("--card").trim() };
}

function drawCharts() {
  const colours = theme();
  const draw = (place) => {
    const chart = report.charts[place.dataset.chart];
    const layout = { ...chart.layout, font: { ...chart.layout.font, color: colours["font.color"] },
      paper_bgcolor: colours.paper_bgcolor };
    Plotly.newPlot(place, chart.data, layout, { responsive: true, displaylogo: false,
      displayModeBar: "hover", modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] });
  };
  // A chart is drawn when it comes near the window: the page answers at once, however large the study.
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
    }
  }, { rootMargin: "600px" });
  document.querySelectorAll("[data-chart]").forEach((place) => seen.observe(place));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    document.querySelectorAll(".js-plotly-plot").forEach((place) => Plotly.relayout(place, theme()));
  });
}

const body = document.querySelector("#trials tbody");
const heads = [...document.querySelectorAll("#trials th")];
const filter = document.getElementById("filter"), state = document.getElementById("state");
let shown = PAGE, sorted = { column: 0, up: true };

function key(row, column) {
  const value = row[column];
  return value !== null && typeof value === "object" ? (value.sort ?? value.text) : value;
}

function compare(a, b) {
  const x = key(a, sorted.column), y = key(b, sorted.column);
  // What is not there comes last, whichever way.
  if (x === null || y === null) return (x === null) - (y === null);
  const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
  return sorted.up ? order : -order;
}

function matches(row) {
  const words = filter.value.trim().toLowerCase();
  return (!state.value || row[2] === state.value)
    && (!words || row.some((value) => String(value?.text ?? value ?? "").toLowerCase().includes(words)));
}

function cell(value, column) {
  const made = document.createElement("td");
  made.className = report.columns[column].kind;
  if (value === null) return made;
  const part = typeof value === "object" ? value : { text: String(value) };
  if (part.style) made.classList.add(part.style);
  if (part.title) made.title = part.title;
  if (part.link) {
    const link = made.appendChild(document.createElement("a"));
    link.href = part.link;
    link.textContent = part.text;
  } else {
    made.textContent = part.text;
  }
  return made;
}

function fill() {
  const rows = report.trials.filter(matches).sort(compare);
  body.replaceChildren(...rows.slice(0, shown).map((row) => {
    const line = document.createElement("tr");
    if (row[1].sort === 0) line.className = "defaults";
    if (row[1].sort === report.best) line.className = "best";
    line.append(...row.map(cell));
    return line;
  }));
  document.getElementById("count").textContent =
    `${Math.min(shown, rows.length).toLocaleString()} of ${rows.length.toLocaleString()} trials`;
  document.getElementById("more").hidden = rows.length <= shown;
  heads.forEach((head, column) => {
    if (column === sorted.column) head.setAttribute("aria-sort", sorted.up ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  });
}

heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
  sorted = { column, up: sorted.column === column ? !sorted.up : report.columns[column].up };
  fill();
}));
for (const field of [filter, state]) field.addEventListener("input", () => { shown = PAGE; fill(); });
document.getElementById("more").addEventListener("click", () => { shown += 10 * PAGE; fill(); });
fill();
drawCharts();
