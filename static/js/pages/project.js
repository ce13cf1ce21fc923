// The page of a project: what trains and waits stays fresh.

import "../shared/page_frame.js";
import { noteBuild } from "../shared/http.js";
import { formatValues } from "../shared/live_table.js";
import { untilReleased, watchPresses } from "../shared/painter.js";

const REFRESH_MS = 8000;
const hosts = document.getElementById("queue-hosts");

async function refresh() {
  const response = await fetch("?fragment=queue", { headers: { "X-Requested-With": "fetch" }, redirect: "manual" });
  if (response.type === "opaqueredirect" || response.status === 401) {
    window.location.reload();
    return;
  }
  noteBuild(response);
  if (!response.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html").body;
  formatValues(fresh);
  await untilReleased();
  const focused = hosts.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  hosts.replaceChildren(...fresh.childNodes);
  if (focused) hosts.querySelector(`[data-focus="${focused}"]`)?.focus({ preventScroll: true });
}

async function refreshForEver() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, REFRESH_MS));
    // A portal that does not answer now is asked again.
    if (!document.hidden) await refresh().catch(() => {});
  }
}

watchPresses(document);
formatValues(document.getElementById("content"));
refreshForEver();
