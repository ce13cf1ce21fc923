// The page of a project: what trains and waits stays fresh, and the space that it uses is fetched.

import "../shared/page_frame.js";
import { setText } from "../shared/dom.js";
import { getFragment, repeatedText } from "../shared/http.js";
import { formatValues } from "../shared/live_table.js";
import { untilReleased, watchPresses } from "../shared/painter.js";

const REFRESH_MS = 8000;
const hosts = document.getElementById("queue-hosts");
const status = document.getElementById("refreshed");

async function refresh() {
  const fresh = (await getFragment("?fragment=queue"))?.body;
  if (!fresh) return;
  formatValues(fresh);
  await untilReleased();
  const focused = hosts.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  hosts.replaceChildren(...fresh.childNodes);
  if (focused) hosts.querySelector(`[data-focus="${focused}"]`)?.focus({ preventScroll: true });
}

/** Fetch once what takes long to count, so that the page does not wait for it. */
async function showSpace() {
  const space = document.getElementById("space");
  try {
    const fresh = (await getFragment("?fragment=space"))?.body;
    if (fresh) space.replaceChildren(...fresh.childNodes);
  } catch (error) {
    setText(space, "–");
    setText(status, error.message);
  }
}

async function refreshForEver() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, REFRESH_MS));
    if (document.hidden) continue;
    try {
      await refresh();
      setText(status, "");
    } catch (error) {
      setText(status, repeatedText(error));
    }
  }
}

watchPresses(document);
formatValues(document.getElementById("content"));
showSpace();
refreshForEver();
