// Shows times from the server in the reader's zone and language, with the full time in the tooltip.

import { element, setText } from "./dom.js";
import { clock, moment } from "./format.js";

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
