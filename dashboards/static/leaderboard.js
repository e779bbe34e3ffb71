// The table of all trials. Only the rows in sight are in the document, so 5,000 trials cost what 30 do.
import { chip, element, duration, interval, score, setting, signed } from "./format.js";

const MARGIN = 8;
const GAP = "train_validation_gap";
const UNFINISHED = new Set(["RUNNING", "PENDING", "PAUSED"]);

export class Leaderboard {
  /**
   * @param {HTMLElement} box    scrolls and holds the table, which has the focus
   * @param {HTMLElement} chips  filters by state
   * @param {HTMLInputElement} search
   * @param {(number: number|null) => void} chosen  called when a trial is selected
   */
  constructor(box, chips, search, chosen) {
    Object.assign(this, { box, chips, search, chosen });
    this.hidden = new Set();
    this.sort = { key: "rank", descending: false };
    this.rows = [];
    this.active = 0;
    this.selected = null;
    this.body = element("tbody");
    this.head = element("thead");
    this.table = element("table", { id: "grid", role: "grid", tabindex: "0", "aria-label": "Trials" }, this.head, this.body);
    box.replaceChildren(this.table);
    box.addEventListener("scroll", () => this._frame());
    this.table.addEventListener("keydown", (event) => this._key(event));
    search.addEventListener("input", () => this.refresh());
    new ResizeObserver(() => this._frame()).observe(box);
  }

  /** Take the study as it is now. */
  show(feed) {
    this.feed = feed;
    if (!this.columns) this._makeColumns();
    const hasVerdict = Boolean(feed.about.verdict);
    const hasGaps = feed.hasGaps;
    if (hasVerdict !== this.hasVerdict || hasGaps !== this.hasGaps) {
      Object.assign(this, { hasVerdict, hasGaps });
      this._makeHead();
    }
    this._makeChips();
    this.refresh();
  }

  refresh() {
    const asked = this.search.value.trim().toLowerCase();
    const column = this.columns.find((each) => each.key === this.sort.key);
    this.rows = [...this.feed.trials.values()].filter(
      (trial) => !this.hidden.has(trial.state) && (!asked || this._matches(trial, asked)),
    );
    this.rows.sort((a, b) => compare(column.value(a), column.value(b), this.sort.descending) || a.number - b.number);
    this.active = Math.min(this.active, Math.max(0, this.rows.length - 1));
    this.table.setAttribute("aria-rowcount", String(this.rows.length + 1));
    this._first = this._last = undefined;
    this._draw();
  }

  select(number, isSeen = true) {
    this.selected = number;
    const index = this.rows.findIndex((trial) => trial.number === number);
    if (index >= 0) {
      this.active = index;
      if (isSeen) this._bring(index);
    }
    this._first = undefined;
    this._draw();
  }

  _makeColumns() {
    const { about, facts } = this.feed;
    const full = facts.full_run;
    const minimal = facts.direction === "minimize";
    const text = (value) => document.createTextNode(value);
    this.columns = [
      { key: "rank", title: "#", value: (t) => t.rank, cell: (t) => text(t.rank ?? ""), right: true },
      {
        key: "number",
        title: "trial",
        value: (t) => t.number,
        cell: (t) => element("span", {}, String(t.number), t.name ? element("span", { class: "soft" }, ` ${t.name}`) : null, t.is_baseline ? element("span", { class: "tag" }, "defaults") : null, t.rank === 1 ? element("span", { class: "star", title: "leads" }, " ★") : null),
      },
      { key: "state", title: "state", value: (t) => t.state, cell: (t) => chip(t.state, t.state === "RUNNING") },
      { key: "value", title: facts.metric, value: (t) => t.value, cell: (t) => text(score(t.value)), right: true, best: !minimal },
      { key: "confirmed", title: "confirmed", value: (t) => t.confirmed?.mean, cell: (t) => text(t.confirmed ? `${score(t.confirmed.mean)} (${interval(t.confirmed.interval)})` : ""), right: true, best: !minimal, wide: true },
      {
        key: "gain",
        title: "gain",
        value: (t) => t.gain,
        cell: (t) => element("span", { class: t.gain > 0 ? "good" : "soft" }, t.is_baseline ? "" : signed(t.gain)),
        right: true,
        best: true,
      },
      { key: "gap", title: "train–val. gap", value: (t) => t.metrics[GAP], cell: (t) => text(score(t.metrics[GAP])), right: true, wide: true },
      ...about.space.map((each) => ({
        key: `hyperparameter ${each.name}`,
        title: each.name,
        value: (t) => t.hyperparameters[each.name],
        cell: (t) => text(setting(t.hyperparameters[each.name])),
        right: each.kind !== "choice",
        wide: true,
      })),
      {
        key: "reach",
        title: "trained",
        value: (t) => t.fidelities.at(-1) ?? 0,
        cell: (t) => reach(t, full, facts.fidelity_unit),
        wide: true,
      },
      { key: "seconds", title: "cost", value: (t) => t.seconds, cell: (t) => text(duration(t.seconds)), right: true },
      { key: "run", title: "run", value: (t) => t.run_id, cell: (t) => this._run(t), wide: true },
    ];
  }

  _shown() {
    const has = { confirmed: this.hasVerdict, gap: this.hasGaps };
    return this.columns.filter((column) => has[column.key] ?? true);
  }

  _makeHead() {
    this.head.replaceChildren(
      element(
        "tr",
        { "aria-rowindex": "1" },
        ...this._shown().map((column) =>
          element(
            "th",
            { scope: "col", "data-key": column.key, class: classes(column) },
            element("button", { type: "button", onclick: () => this._sortBy(column) }, column.title),
          ),
        ),
      ),
    );
    this._markSort();
  }

  _markSort() {
    for (const head of this.head.querySelectorAll("th")) {
      if (head.dataset.key === this.sort.key) {
        head.setAttribute("aria-sort", this.sort.descending ? "descending" : "ascending");
      } else head.removeAttribute("aria-sort");
    }
  }

  _sortBy(column) {
    const again = this.sort.key === column.key;
    this.sort = { key: column.key, descending: again ? !this.sort.descending : Boolean(column.best) };
    this._markSort();
    this.box.scrollTop = 0;
    this.active = 0;
    this.refresh();
  }

  _makeChips() {
    const counts = this.feed.facts.counts;
    const text = JSON.stringify(counts);
    if (text === this._counts) return;
    this._counts = text;
    const held = document.activeElement?.dataset?.filter;
    this.chips.replaceChildren(
      ...Object.entries(counts).map(([state, number]) =>
        element(
          "button",
          {
            type: "button",
            "data-state": state,
            "data-filter": state,
            "aria-pressed": String(!this.hidden.has(state)),
            onclick: (event) => this._toggle(state, event.currentTarget),
          },
          chip(state),
          ` ${number}`,
        ),
      ),
    );
    if (held) this.chips.querySelector(`[data-filter="${held}"]`)?.focus();
  }

  _toggle(state, button) {
    if (!this.hidden.delete(state)) this.hidden.add(state);
    button.setAttribute("aria-pressed", String(!this.hidden.has(state)));
    this.refresh();
  }

  /** A trial's number, or a part of what a cell says, or key=value. */
  _matches(trial, asked) {
    if (/^\d+$/.test(asked)) return trial.number === Number(asked);
    const [name, value] = asked.split("=").map((part) => part.trim());
    return Object.entries(trial.hyperparameters).some(
      ([key, own]) =>
        (value === undefined ? setting(own).includes(name) : key.includes(name) && setting(own).startsWith(value)),
    ) || trial.state.toLowerCase().includes(asked) || (trial.error ?? "").toLowerCase().includes(asked);
  }

  _run(trial) {
    const url = runUrl(this.feed, trial);
    return url ? element("a", { href: url, tabindex: "-1" }, "MLflow") : document.createTextNode("");
  }

  _height() {
    return matchMedia("(max-width: 600px)").matches ? 42 : 34;
  }

  _frame() {
    cancelAnimationFrame(this._pending);
    this._pending = requestAnimationFrame(() => this._draw());
  }

  _draw() {
    if (!this.feed) return;
    const height = this._height();
    const first = Math.max(0, Math.floor(this.box.scrollTop / height) - MARGIN);
    const last = Math.min(this.rows.length, first + Math.ceil(this.box.clientHeight / height) + 2 * MARGIN);
    if (first === this._first && last === this._last) return;
    [this._first, this._last] = [first, last];
    const columns = this._shown();
    const spacer = (count) =>
      element("tr", { class: "spacer", "aria-hidden": "true" }, element("td", { colspan: columns.length, style: `height:${count * height}px` }));
    const rows = [];
    for (let index = first; index < last; index += 1) rows.push(this._row(this.rows[index], index, columns));
    if (!this.rows.length) rows.push(element("tr", {}, element("td", { colspan: columns.length, class: "soft" }, "No trial fits the filter.")));
    this.body.replaceChildren(spacer(first), ...rows, spacer(this.rows.length - last));
    this._markActive();
  }

  _row(trial, index, columns) {
    const isFaint = !UNFINISHED.has(trial.state) && trial.state !== "COMPLETE";
    return element(
      "tr",
      {
        id: `row-${index}`,
        "data-trial": trial.number,
        "data-state": trial.state,
        "aria-rowindex": index + 2,
        "aria-selected": String(trial.number === this.selected),
        class: isFaint ? "faint" : null,
        onclick: (event) => {
          if (event.target.closest("a")) return;
          this.active = index;
          this._choose();
        },
      },
      ...columns.map((column) => element("td", { class: classes(column) }, column.cell(trial))),
    );
  }

  _choose() {
    const trial = this.rows[this.active];
    if (trial) this.chosen(trial.number);
  }

  _key(event) {
    if (event.target !== this.table) return;
    const page = Math.max(1, Math.floor(this.box.clientHeight / this._height()) - 2);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in moves) {
      this.active = Math.max(0, Math.min(this.rows.length - 1, this.active + moves[event.key]));
      this._bring(this.active);
      this._draw();
      this._markActive();
    } else if (event.key === "Enter" || event.key === " ") this._choose();
    else if (event.key === "Escape") this.chosen(null);
    else return;
    event.preventDefault();
  }

  _bring(index) {
    const height = this._height();
    const head = this.head.offsetHeight;
    const top = index * height;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + height + head > this.box.scrollTop + this.box.clientHeight) {
      this.box.scrollTop = top + height + head - this.box.clientHeight;
    }
  }

  _markActive() {
    for (const row of this.body.querySelectorAll("tr.active")) row.classList.remove("active");
    const row = this.body.querySelector(`#row-${this.active}`);
    row?.classList.add("active");
    if (row) this.table.setAttribute("aria-activedescendant", row.id);
    else this.table.removeAttribute("aria-activedescendant");
  }
}

/** Where a trial's run is in MLflow, once it is delivered there. */
export function runUrl(feed, trial) {
  const { experiment_id: experiment } = feed.facts;
  return experiment && trial.run_id ? `${mlflowUrl(feed)}#/experiments/${experiment}/runs/${trial.run_id}` : null;
}

/** MLflow's pages: on this server, or on the one that the study records to. */
export function mlflowUrl(feed) {
  const uri = feed.facts.tracking_uri.replace(/^(https?:\/\/)[^/@]*@/, "$1");
  return /^https?:/.test(uri) ? `${uri.replace(/\/+$/, "")}/` : "/";
}

function reach(trial, full, unit) {
  const done = trial.fidelities.at(-1) ?? 0;
  const title = `${Number(done.toFixed(2))} of ${full} ${unit}`;
  const bar = element("span", { class: "reach", role: "img", "aria-label": title, title }, element("i"));
  bar.firstChild.style.width = `${Math.min(100, (100 * done) / full)}%`;
  return bar;
}

function classes(column) {
  return [column.right && "right", column.wide && "wide"].filter(Boolean).join(" ") || null;
}

/** What is missing comes last, whichever way it is sorted. */
function compare(one, other, descending) {
  const isNone = (value) => value === null || value === undefined;
  if (isNone(one) || isNone(other)) return Number(isNone(one)) - Number(isNone(other));
  const order = typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other));
  return descending ? -order : order;
}
