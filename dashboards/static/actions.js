// What people can do to a study: each action is asked for, confirmed, and answered in words.
import { act } from "./feed.js";
import { count, element, setting } from "./format.js";

/** Open a dialog; `send` returns a promise, whose words are shown, as is what it fails with. */
function ask({ title, text, fields = [], confirm, danger = false, send }) {
  const problem = element("p", { class: "problem", role: "alert" });
  const yes = element("button", { type: "submit", class: danger ? "primary danger" : "primary" }, confirm);
  const no = element("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const form = element("form", { method: "dialog" }, element("h2", { id: "asked" }, title), element("p", {}, text), ...fields, problem, element("div", { class: "buttons" }, no, yes));
  const dialog = element("dialog", { "aria-labelledby": "asked" }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    yes.disabled = true;
    problem.textContent = "";
    try {
      tell(await send(new FormData(form)));
      dialog.close();
    } catch (stands) {
      problem.textContent = stands.message;
    } finally {
      yes.disabled = false;
    }
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/** Say something for a while. */
export function tell(words) {
  const notice = document.getElementById("notice");
  notice.textContent = words.charAt(0).toUpperCase() + words.slice(1);
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => (notice.textContent = ""), 8000);
}

export function stopStudy(study) {
  ask({
    title: `Stop ${study}?`,
    text: "Running trials commit a checkpoint at their next step and leave. Nothing is lost: sweep resume goes on from there.",
    confirm: "Stop the study",
    danger: true,
    send: () => act(study, "stop", {}),
  });
}

export function stopTrial(study, number) {
  ask({
    title: `Stop trial ${number}?`,
    text: "It ends now as cancelled: it counts as finished, keeps what it reported, is never ranked, and cannot go on.",
    confirm: `Stop trial ${number}`,
    danger: true,
    send: () => act(study, "stop-trial", { trial: number }),
  });
}

export function addTrials(study, feed) {
  const input = element("input", { id: "more", name: "more", type: "number", min: 1, value: 4, required: true, inputmode: "numeric" });
  ask({
    title: "Add trials",
    text: `The budget is ${count(feed.facts.trials, "trial")} now. The sampler draws the new ones.`,
    fields: [element("label", { for: "more" }, "How many more"), input],
    confirm: "Add",
    send: (form) => act(study, "add", { trials: Number(form.get("more")) }),
  });
}

function range(each) {
  if (each.kind === "choice") return "";
  return ` (${setting(each.low)} to ${setting(each.high)}${each.log ? ", log" : ""})`;
}

/** Values as the server reads them: text, lists as JSON. */
function written(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Whether two written values are one: the server's Python writes 1.0 and 3e-05 where the browser writes 1 and 0.00003. */
function same(one, other) {
  try {
    return JSON.stringify(JSON.parse(one)) === JSON.stringify(JSON.parse(other));
  } catch {
    return one === other;
  }
}

export function enqueue(study, feed, trial = null) {
  const start = Object.fromEntries(feed.about.space.map(({ name }) => [name, trial ? written(trial.hyperparameters[name]) : feed.about.defaults[name]]));
  const fields = feed.about.space.flatMap((each) => {
    const id = `value-${each.name}`;
    const field =
      each.kind === "choice"
        ? element("select", { id, name: each.name }, ...each.choices.map((choice) => element("option", { value: written(choice), selected: same(written(choice), start[each.name]) }, setting(choice))))
        : element("input", { id, name: each.name, value: start[each.name], autocomplete: "off", inputmode: "decimal" });
    return [element("label", { for: id }, each.name + range(each)), field];
  });
  ask({
    title: "Try a configuration",
    text: `The next free worker takes it, in the place of the next draw. It starts from ${trial ? `trial ${trial.number}` : "the defaults"}.`,
    fields,
    confirm: "Enqueue",
    send: (form) => act(study, "enqueue", { hyperparameters: Object.fromEntries(form.entries()) }),
  });
}
