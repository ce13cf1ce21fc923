// The order of the charts of a group, as a person has arranged them: by dragging a handle, or with its arrow keys.

import { element, icon } from "../../shared/dom.js";
import { fill, gettext } from "../../shared/i18n.js";

const STEPS = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };
const TYPE = "application/x-steersman-chart";

/** Return `charts` with those of `order`, a list of keys, in that order; others stay where they are among the rest. */
export function inOrder(charts, order) {
  const places = new Map(order.map((key, place) => [key, place]));
  const [placed, others] = [charts.filter(({ key }) => places.has(key)), charts.filter(({ key }) => !places.has(key))];
  placed.sort((left, right) => places.get(left.key) - places.get(right.key));
  return [...placed, ...others];
}

/** Return `keys` with `key` at the place of `target`; unchanged if either is missing. */
export function moved(keys, key, target) {
  const [from, to] = [keys.indexOf(key), keys.indexOf(target)];
  if (from < 0 || to < 0 || from === to) return keys;
  const others = keys.filter((other) => other !== key);
  others.splice(to, 0, key);
  return others;
}

/** Return the handle of the chart `key`; `onStep(step)` moves it one place back or forth. */
export function moveHandle(key, onStep) {
  const label = fill(gettext("Move {name}: drag it, or use the arrow keys"), { name: key });
  // No button element: Firefox drags none.
  const attributes = { class: "chart-button chart-handle", role: "button", tabindex: "0", draggable: "true", title: label };
  const handle = element("span", { ...attributes, "aria-label": label, "data-testid": "move" }, icon("move"));
  handle.addEventListener("dragstart", (event) => {
    const card = handle.closest(".chart-card");
    event.dataTransfer.setData(TYPE, key);
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setDragImage(card, 20, 20);
    card.classList.add("chart-dragged");
  });
  handle.addEventListener("dragend", () => handle.closest(".chart-card").classList.remove("chart-dragged"));
  handle.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    // The chart would move its cursor.
    event.stopPropagation();
    onStep(step);
    handle.focus();
    handle.closest(".chart-card").scrollIntoView({ block: "nearest" });
  });
  return handle;
}

/** Let charts be dropped on others of `grid`: `onDrop(key, target)` gets the keys of both. */
export function acceptDrops(grid, onDrop) {
  const targetOf = (event) => event.target.closest?.(".chart-card");
  const mark = (card) => {
    for (const other of grid.querySelectorAll(".chart-drop")) if (other !== card) other.classList.remove("chart-drop");
    card?.classList.add("chart-drop");
  };
  grid.addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes(TYPE) || !grid.querySelector(".chart-dragged")) return;
    event.preventDefault();
    mark(targetOf(event));
  });
  grid.addEventListener("dragleave", (event) => grid.contains(event.relatedTarget) || mark(null));
  grid.addEventListener("drop", (event) => {
    const card = targetOf(event);
    mark(null);
    if (!card) return;
    event.preventDefault();
    onDrop(event.dataTransfer.getData(TYPE), card.dataset.key);
  });
}
