// Moments that the server wrote, as every other one of the portal: the reader's zone and language, the whole of it on hover.

import { setText } from "./dom.js";
import { clock, moment } from "./format.js";

export function showMoments(root) {
  for (const node of root.querySelectorAll("time[datetime]")) {
    const at = node.getAttribute("datetime");
    setText(node, clock(at));
    node.title = moment(at);
  }
}
