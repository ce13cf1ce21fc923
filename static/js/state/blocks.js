// The points in blocks of `metrics` events, with the logged numbers restored.

/** Return `blocks` without the points of events up to `held`, with float32s as precise as they were logged. */
export function pointsAfter(blocks, held) {
  return blocks.map((block) => exact(later(block, held))).filter(({ steps }) => steps.length);
}

/** A block of several events has the number of the event for each point. */
function later(block, held) {
  const { seqs, steps, times, values, nonfinite } = block;
  if (!seqs || seqs[0] > held) return block;
  const known = seqs.filter((seq) => seq <= held).length;
  const rest = (column) => column.slice(known);
  const named = (places) => places.map(([index, name]) => [index - known, name]).filter(([index]) => index >= 0);
  return {
    ...block,
    steps: rest(steps),
    times: rest(times),
    values: changed(values, rest),
    nonfinite: changed(nonfinite ?? {}, named),
  };
}

/** Round numbers that were shortened to their float32. */
function exact(block) {
  if (!block.float32) return block;
  const doubles = new Set(block.float64 ?? []);
  const single = (value) => (value === null ? null : Math.fround(value));
  return { ...block, values: changed(block.values, (column, name) => (doubles.has(name) ? column : column.map(single))) };
}

function changed(columns, change) {
  return Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, change(column, name)]));
}
