// Shows times from the server in the reader's zone and language, with the full time in the tooltip.

import { element, setText } from "./dom.js";
import { clock, moment } from "./format.js";

const ZONE_COOKIE = "steersman_zone";
const ZONE_AGE_S = 365 * 24 * 3600;

/** Tell the server the reader's zone, for the pages of the admin. */
export function tellZone() {
  const cookie = `${ZONE_COOKIE}=${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
  const root = document.body.dataset.root;
  if (!root || document.cookie.split("; ").includes(cookie)) return;
  const secure = window.location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${cookie}; Path=${root}; Max-Age=${ZONE_AGE_S}; SameSite=Lax${secure}`;
}

export function showMoments(root) {
  for (const node of root.querySelectorAll("time[datetime]")) {
    const at = node.getAttribute("datetime");
    setText(node, clock(at));
    node.title = moment(at);
  }
}

/** Return an element that shows an ISO time in the same way; `attributes` has further ones. */
export function momentElement(at, attributes = {}) {
  return element("time", { ...attributes, datetime: at, title: moment(at), text: clock(at) });
}
