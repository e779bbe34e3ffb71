// In MLflow's own pages: a link back to the study, or to the trial whose run is open.
const link = document.createElement("a");
link.textContent = "Sweep ↗";
link.id = "sweep-way-back";
link.style.cssText =
  "position:fixed;left:50%;bottom:10px;transform:translateX(-50%);z-index:2000;background:#2457c5;color:#fff;padding:6px 12px;" +
  "border-radius:8px;font:600 13px system-ui,sans-serif;text-decoration:none;box-shadow:0 1px 4px rgb(0 0 0/30%)";

function aim() {
  const query = new URLSearchParams();
  const experiment = /\/experiments\/(\d+)/.exec(location.hash);
  const run = /\/runs\/([0-9a-f]{32})/.exec(location.hash);
  if (experiment) query.set("experiment", experiment[1]);
  if (run) query.set("run", run[1]);
  link.href = query.size ? `/sweep-of?${query}` : "/sweep";
}

aim();
addEventListener("hashchange", aim);
// MLflow also changes the address without telling: aim once more when somebody is about to follow the link.
for (const sign of ["pointerenter", "focus", "pointerdown"]) link.addEventListener(sign, aim);
document.body.append(link);
