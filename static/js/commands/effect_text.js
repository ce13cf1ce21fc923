// The effect of an intervention as text. Pure.

import { fixed, measure, number, readableName } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";

/** Return "Train loss 0.52 ± 0.03 → 0.41 ± 0.02, −21 % (50 and 50 points)", or that the effect is not clear. */
export function effectText({ name, before, after, change, isClear, isWhole }) {
  const counts = fill(gettext("{before} and {after} points"), { before: before.count, after: after.count });
  const odd = after.odd ? fill(gettext("{count} not finite"), { count: after.odd }) : "";
  const then = after.count ? spread(name, after) : number(null, "nan");
  const values = `${readableName(name)} ${spread(name, before)} → ${then}`;
  const verdict = isClear ? percentText(change) : gettext("not clear: smaller than the spread");
  const notes = [counts, isWhole ? "" : gettext("so far")].filter(Boolean).join(", ");
  return `${[values, verdict, odd].filter(Boolean).join(", ")} (${notes})`;
}

function spread(name, { mean, spread: deviation }) {
  return `${measure(name, mean)} ± ${measure(name, Number(deviation.toPrecision(2)))}`;
}

function percentText(change) {
  if (change === null) return "";
  const size = Math.abs(100 * change);
  return `${change < 0 ? "−" : "+"}${fixed(size, size < 10 ? 1 : 0)} %`;
}
