// One row of a panel: an icon, a title, details, and a time.

import { element, icon } from "../shared/dom.js";
import { momentElement } from "../shared/moments.js";

/** Return a row; `extra` has its attributes. */
export function panelRow(picture, title, details, when, extra = {}) {
  return element(
    "div",
    { class: "entry", ...extra },
    element("span", { class: "entry-icon" }, icon(picture)),
    element(
      "div",
      { class: "entry-text" },
      element("div", { class: "entry-title", text: title }),
      ...details.filter(Boolean).map((text) => element("div", { class: "entry-detail", text })),
    ),
    timeElement(when),
  );
}

/** Return an element for a time: the clock time, with day and zone in its tooltip. */
export function timeElement(when) {
  if (!when) return null;
  return momentElement(when, { class: "entry-time" });
}

/** Make `nodes` the content of `place`. A node that is there already is not moved, so that it keeps focus and selection. */
export function showInOrder(place, nodes) {
  const wanted = new Set(nodes);
  for (const node of [...place.childNodes]) if (!wanted.has(node)) node.remove();
  nodes.forEach((node, index) => {
    const there = place.childNodes[index] ?? null;
    if (there !== node) place.insertBefore(node, there);
  });
}

/**
 * Give `row` the content of another row, without its parts that are equal. If the part with the focus is gone, its
 * successor, or else the row, gets the focus.
 */
export function renewRow(row, other) {
  const focused = row.contains(document.activeElement) ? document.activeElement : null;
  Object.assign(row.dataset, other.dataset);
  const parts = [...other.childNodes];
  parts.forEach((part, index) => {
    const own = row.childNodes[index];
    if (!own) row.append(part);
    else if (!own.isEqualNode(part)) own.replaceWith(part);
  });
  while (row.childNodes.length > parts.length) row.lastChild.remove();
  if (!focused || focused.isConnected) return;
  const successor = focused.dataset.testid && row.querySelector(`[data-testid="${focused.dataset.testid}"]`);
  (successor || row).focus({ preventScroll: true });
}
