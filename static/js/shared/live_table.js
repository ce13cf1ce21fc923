// Tables that the server renders again while a person reads them.

import { setText } from "./dom.js";
import { duration, measure } from "./format.js";
import { showMoments } from "./moments.js";

/** Format times, durations and numbers for the reader. */
export function formatValues(root) {
  showMoments(root);
  for (const node of root.querySelectorAll("[data-seconds]")) setText(node, duration(Number(node.dataset.seconds)));
  for (const node of root.querySelectorAll("[data-number]")) {
    setText(node, measure(node.dataset.name, Number(node.dataset.number)));
  }
  for (const node of root.querySelectorAll("[data-delta]")) {
    const delta = Number(node.dataset.delta);
    const sign = delta > 0 ? "+" : delta < 0 ? "−" : "±";
    setText(node, sign + measure(node.dataset.name, Math.abs(delta)));
  }
}

/** Replace the cells of `rows` that differ from those of `wanted`, which keeps focus, selection and scroll position. */
export function mergeRows(rows, wanted) {
  [...rows].forEach((row, index) => {
    Object.assign(row.dataset, wanted[index].dataset);
    [...row.cells].forEach((cell, column) => {
      const other = wanted[index].cells[column];
      if (other && !cell.isEqualNode(other) && !cell.contains(document.activeElement))
        cell.replaceWith(other.cloneNode(true));
    });
  });
}
