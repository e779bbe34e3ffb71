// Light or dark: what the system says, until somebody chooses otherwise. Loaded first, so that nothing flashes.
const KEY = "sweep-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function chosen() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function show() {
  document.documentElement.dataset.theme = chosen() ?? (system.matches ? "dark" : "light");
  document.dispatchEvent(new Event("sweep:theme"));
}

function label(button) {
  const other = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  button.textContent = other === "dark" ? "☾" : "☀";
  button.setAttribute("aria-label", `Show in ${other} colours`);
  button.title = `Show in ${other} colours`;
}

system.addEventListener("change", show);
show();
document.addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("theme");
  if (!button) return;
  label(button);
  document.addEventListener("sweep:theme", () => label(button));
  button.addEventListener("click", () => {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem(KEY, next);
    } catch {
      // A browser that keeps nothing still shows the choice.
    }
    document.documentElement.dataset.theme = next;
    document.dispatchEvent(new Event("sweep:theme"));
  });
});
