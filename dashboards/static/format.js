// How values are written for people.

const NONE = "–";

/** A score: four decimals, or three digits where those would hide it. */
export function score(value) {
  if (value === null || value === undefined) return NONE;
  return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(2) : value.toFixed(4);
}

/** A difference, with its sign. */
export function signed(value) {
  if (value === null || value === undefined) return NONE;
  return (value < 0 ? "−" : "+") + score(Math.abs(value));
}

/** A hyperparameter, short: 3.1e-4, 0.12, [0, 2, 5]. */
export function setting(value) {
  if (typeof value === "number" && (!Number.isInteger(value) || Math.abs(value) >= 1e7)) {
    return value !== 0 && (Math.abs(value) < 0.01 || Math.abs(value) >= 1e7) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  }
  return Array.isArray(value) ? `[${value.map(setting).join(", ")}]` : String(value);
}

/** Seconds as people say them. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
  return `${(seconds / 86400).toFixed(1)} days`;
}

/** A point in time, in the reader's own zone. */
export function moment(unixSeconds) {
  return unixSeconds ? new Date(unixSeconds * 1000).toLocaleString() : NONE;
}

export function percent(share) {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

/** "1 trial", "2 trials". */
export function count(number, word) {
  return `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
}

export function interval(pair) {
  return pair && pair.length === 2 ? `${score(pair[0])} to ${score(pair[1])}` : NONE;
}

/** An element with attributes and children; texts are texts, never markup. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function chip(state, isLive = false) {
  return element("span", { class: isLive ? "chip live" : "chip", "data-state": state }, state.toLowerCase());
}
