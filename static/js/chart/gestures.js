// Zooming a chart by wheel, by two fingers and by keys, and moving what is shown. A plain wheel and one finger scroll the
// page, as everywhere.

const WHEEL_FACTOR = 1.2;
const KEY_FACTOR = 1.5;
// The part of the shown range by which a key moves it.
const KEY_STEP = 0.1;
// Fingers closer than this many pixels have no usable direction.
const CLOSEST_FINGERS = 24;
// In pixels: a pointer this close to a line points at it.
const REACH = 24;

/**
 * `zoom(factor, centre)` shows `factor` times the range around the x `centre`; `pan(distance)` moves the range by
 * `distance` in x. A mouse moves it with Shift, two fingers while they zoom.
 */
export function zoomByPointer(plot, { zoom, pan }) {
  const { over } = plot;
  over.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.shiftKey) return;
      event.preventDefault();
      // With Shift, some systems scroll horizontally.
      const turned = event.deltaY || event.deltaX;
      if (turned) zoom(turned > 0 ? WHEEL_FACTOR : 1 / WHEEL_FACTOR, plot.posToVal(event.offsetX, "x"));
    },
    { passive: false },
  );
  panByMouse(plot, pan);
  const fingers = new Map();
  let before = null;
  over.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "touch") return;
    fingers.set(event.pointerId, event.clientX);
    before = null;
  });
  over.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, event.clientX);
    if (fingers.size !== 2) return;
    const [left, right] = [...fingers.values()].sort((one, other) => one - other);
    const apart = Math.max(CLOSEST_FINGERS, right - left);
    const middle = (left + right) / 2 - over.getBoundingClientRect().left;
    if (before) {
      pan(distanceOf(plot, before.middle - middle));
      zoom(before.apart / apart, plot.posToVal(middle, "x"));
    }
    before = { apart, middle };
  });
  const lift = (event) => {
    fingers.delete(event.pointerId);
    before = null;
  };
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) over.addEventListener(end, lift);
}

function panByMouse(plot, pan) {
  const { over } = plot;
  let x = null;
  over.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse" || event.button || !event.shiftKey) return;
    x = event.clientX;
    over.setPointerCapture(event.pointerId);
  });
  over.addEventListener("pointermove", (event) => {
    if (x === null) return;
    pan(distanceOf(plot, x - event.clientX));
    x = event.clientX;
  });
  for (const end of ["pointerup", "pointercancel"]) over.addEventListener(end, () => (x = null));
}

/** Return how much of x so many pixels are. */
function distanceOf(plot, pixels) {
  const { min, max } = plot.scales.x;
  return (pixels * (max - min)) / plot.over.clientWidth;
}

/**
 * Answer a key on the focused chart: arrows, Home and End move the cursor, arrows with Shift move what is shown, plus
 * and minus zoom, zero shows all.
 */
export function handleChartKey(event, plot, { zoom, pan, reset }) {
  const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
  const factor = { "+": 1 / KEY_FACTOR, "=": 1 / KEY_FACTOR, "-": KEY_FACTOR }[event.key];
  if (move === undefined && !factor && event.key !== "0") return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  if (event.key === "0") reset();
  else if (factor) zoom(factor, plot.cursor.idx === null ? middleOf(plot) : plot.data[0][plot.cursor.idx]);
  else if (event.shiftKey && Number.isFinite(move)) pan(move * KEY_STEP * (plot.scales.x.max - plot.scales.x.min));
  else {
    const xs = plot.data[0];
    const index = Math.max(0, Math.min(xs.length - 1, (plot.cursor.idx ?? xs.length) + move));
    plot.setCursor({ left: plot.valToPos(xs[index], "x"), top: 20 });
  }
}

function middleOf(plot) {
  const { min, max } = plot.scales.x;
  return (min + max) / 2;
}

/**
 * Return the index nearest to `index` at which `column` has a value, or `index` if one side has no value. A line with
 * other x values has none at the cursor; a line that has ended has none after its end.
 */
export function nearestKnown(column, index) {
  if (column[index] !== undefined) return index;
  let [left, right] = [index, index];
  while (left >= 0 && column[left] === undefined) left -= 1;
  while (right < column.length && column[right] === undefined) right += 1;
  if (left < 0 || right >= column.length) return index;
  return index - left <= right - index ? left : right;
}

/** Return the line nearest to the cursor, null if none is near. `stride` is the number of columns per line. */
export function nearestLine(plot, lines, stride) {
  const { idx, top } = plot.cursor;
  if (idx === null || idx === undefined || top < 0) return null;
  let [nearest, reach] = [null, REACH];
  for (let line = 0; line < lines; line += 1) {
    const column = plot.data[line * stride + (stride > 3 ? 4 : 1)];
    const value = column[nearestKnown(column, idx)];
    if (value === null || value === undefined) continue;
    const distance = Math.abs(plot.valToPos(value, "y") - top);
    if (distance < reach) [nearest, reach] = [line, distance];
  }
  return nearest;
}
