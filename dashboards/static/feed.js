// The study as it is on the server, kept up to date by asking for what is new.

const SECONDS_LIVE = 1.5;
const SECONDS_IDLE = 6;

export const API = "/ajax-api/sweep";

/** Trials and facts of one study; calls `changed` after every answer that says something new. */
export class Feed {
  constructor(study, changed, gone) {
    this.study = study;
    this.trials = new Map();
    this.facts = null;
    this.about = null;
    this.rungs = [];
    this.spend = null;
    this.eta = null;
    this.hasGaps = false; // whether the objective reports training and validation loss
    this._changed = changed;
    this._gone = gone;
    this._token = null;
    this._digest = null;
    this._timer = null;
  }

  get url() {
    return `${API}/studies/${encodeURIComponent(this.study)}`;
  }

  async poll() {
    clearTimeout(this._timer);
    try {
      const query = new URLSearchParams();
      if (this._token) query.set("since", this._token);
      if (this._digest) query.set("about", this._digest);
      const answer = await fetch(`${this.url}?${query}`, { cache: "no-cache" });
      const news = await answer.json();
      if (!answer.ok) throw new Error(news.problem);
      this._gone(null);
      this._take(news);
    } catch (problem) {
      this._gone(problem instanceof TypeError ? "The server does not answer. It may have ended." : problem.message);
    }
    const isLive = this.facts?.state === "RUNNING";
    this._timer = setTimeout(() => this._again(), 1000 * (isLive ? SECONDS_LIVE : SECONDS_IDLE));
  }

  _again() {
    // A page that nobody looks at asks nothing; it catches up when it is looked at.
    if (!document.hidden) this.poll();
    else document.addEventListener("visibilitychange", () => this._again(), { once: true });
  }

  _take(news) {
    const text = JSON.stringify([news.facts, news.eta_seconds, news.about_digest]);
    const isNew = news.token !== this._token || text !== this._text;
    if (!isNew) return;
    if (news.is_whole) this.trials.clear();
    this._token = news.token;
    this._text = text;
    this._digest = news.about_digest;
    Object.assign(this, { facts: news.facts, rungs: news.rungs, spend: news.spend, eta: news.eta_seconds });
    if (news.about) this.about = news.about;
    const columns = this.about.columns;
    for (const row of news.trials) {
      const trial = {};
      columns.forEach((column, index) => (trial[column] = row[index]));
      this.trials.set(trial.number, trial);
      this.hasGaps ||= trial.gaps.some((gap) => gap !== null);
    }
    this._rank();
    this._changed(news.trials.length > 0);
  }

  /** Complete trials are ranked, best first; ties go to the lower number. */
  _rank() {
    const sign = this.facts.direction === "maximize" ? -1 : 1;
    const complete = [...this.trials.values()].filter((t) => t.state === "COMPLETE" && t.value !== null);
    for (const trial of this.trials.values()) trial.rank = null;
    complete.sort((a, b) => sign * (a.value - b.value) || a.number - b.number);
    complete.forEach((trial, index) => (trial.rank = index + 1));
    this.best = complete[0] ?? null;
    for (const finalist of this.about.verdict?.finalists ?? []) {
      const trial = this.trials.get(finalist.trial_number);
      if (trial) trial.confirmed = finalist;
    }
  }
}

/** Ask the server to do something; resolves to what it says, rejects with what stands in the way. */
export async function act(study, action, body) {
  const token = document.querySelector('meta[name="sweep-token"]').content;
  const answer = await fetch(`${API}/studies/${encodeURIComponent(study)}/${action}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Sweep-Token": token },
    body: JSON.stringify(body),
  });
  const said = await answer.json().catch(() => ({ problem: `The server answered ${answer.status}.` }));
  if (!answer.ok) throw new Error(said.problem);
  return said.done;
}
