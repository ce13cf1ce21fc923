// Marks of interventions in one chart: a line and an icon at each, and a description at the cursor.

import { clusterMarks, ICON_PATHS, markText } from "../commands/interventions.js";
import { element } from "../shared/dom.js";
import { fill, gettext } from "../shared/i18n.js";
import { palette } from "../shared/palette.js";

const SIZE = 17;
// A pointer this close shows the description of a mark; fingers are not more precise.
const REACH = 9;
const MOST_TIP_LINES = 6;
const paths = new Map();

export class InterventionLayer {
  #root;
  #tip = element("div", { class: "mark-tip", role: "status", hidden: true, "data-testid": "mark-tip" });
  #groups = [];
  #shown = null;

  /** `root` is the chart, `place` the element with its curve. */
  constructor(root, place) {
    this.#root = root;
    place.append(this.#tip);
  }

  get count() {
    return this.#groups.reduce((sum, group) => sum + group.marks.length, 0);
  }

  draw(plot, marks) {
    const { min, max } = plot.scales.x;
    const seen = marks
      .filter(({ x }) => x >= min && x <= max)
      .map((mark) => ({ ...mark, x: plot.valToPos(mark.x, "x") }));
    this.#groups = clusterMarks(seen, SIZE);
    this.#root.dataset.marks = seen.length;
    if (!seen.length) return;
    const { ctx, bbox } = plot;
    const unit = devicePixelRatio;
    ctx.save();
    ctx.lineWidth = unit;
    for (const { x, marks: own } of this.#groups) {
      const colour = own.some(({ command }) => command.command === "alert") ? palette.odd : palette.mark;
      ctx.strokeStyle = ctx.fillStyle = colour;
      const middle = bbox.left + x * unit;
      const bottom = bbox.top + bbox.height;
      ctx.globalAlpha = 0.55;
      ctx.setLineDash([2 * unit, 3 * unit]);
      ctx.beginPath();
      ctx.moveTo(middle, bbox.top);
      ctx.lineTo(middle, bottom - SIZE * unit);
      ctx.stroke();
      ctx.setLineDash([]);
      ctx.globalAlpha = 1;
      drawBadge(ctx, middle, bottom - (SIZE / 2 + 1) * unit, unit, own, colour);
    }
    ctx.restore();
  }

  /** Show the marks at the cursor, if the pointer is on this chart. */
  read(plot) {
    const { left } = plot.cursor;
    const near = left >= 0 ? this.#groups.find(({ x }) => Math.abs(x - left) <= REACH) : undefined;
    const isLookedAt = near && (this.#root.matches(":hover") || document.activeElement === this.#root);
    this.#show(plot, isLookedAt ? near : null);
  }

  #show(plot, group) {
    if (group === this.#shown) return;
    this.#shown = group;
    this.#tip.hidden = !group;
    if (!group) return;
    const texts = group.marks.slice(-MOST_TIP_LINES).map(({ command }) => markText(command));
    const rest = group.marks.length - texts.length;
    if (rest) texts.unshift(fill(gettext("and {count} before"), { count: rest }));
    this.#tip.replaceChildren(...texts.map((text) => element("div", { text })));
    const isRight = group.x > plot.over.clientWidth / 2;
    const gap = plot.over.offsetLeft;
    this.#tip.style.left = isRight ? "auto" : `${gap + group.x + 10}px`;
    this.#tip.style.right = isRight ? `${plot.over.clientWidth - group.x + 22}px` : "auto";
  }

  /** Handle m (next mark) and M (previous mark) on the focused chart; return whether it was one of them. */
  key(event, plot) {
    if ((event.key !== "m" && event.key !== "M") || event.ctrlKey || event.metaKey || event.altKey) return false;
    event.preventDefault();
    const { left } = plot.cursor;
    const next =
      event.key === "m"
        ? this.#groups.find(({ x }) => x > left + 1 || left < 0)
        : this.#groups.findLast(({ x }) => x < left - 1 || left < 0);
    if (next) plot.setCursor({ left: next.x, top: 20 });
    return true;
  }
}

function drawBadge(ctx, x, y, unit, marks, colour) {
  const radius = (SIZE / 2) * unit;
  ctx.beginPath();
  ctx.arc(x, y, radius, 0, 2 * Math.PI);
  ctx.fillStyle = palette.surface;
  ctx.fill();
  ctx.stroke();
  ctx.fillStyle = colour;
  if (marks.length > 1) {
    ctx.font = `700 ${9.5 * unit}px "Inter Variable", system-ui, sans-serif`;
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.fillText(marks.length > 9 ? "9+" : String(marks.length), x, y + 0.5 * unit);
    return;
  }
  const scale = (SIZE * 0.66 * unit) / 24;
  ctx.save();
  ctx.translate(x - 12 * scale, y - 12 * scale);
  ctx.scale(scale, scale);
  ctx.fill(pathOf(marks[0].command.command));
  ctx.restore();
}

function pathOf(kind) {
  if (!paths.has(kind)) paths.set(kind, new Path2D(ICON_PATHS[kind]));
  return paths.get(kind);
}
