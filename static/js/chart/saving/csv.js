// The drawn values of a chart as CSV. Pure.

// Spreadsheets interpret a cell that begins like this as a formula.
const FORMULA = /^[=+\-@\t\r]/;

/**
 * Return the drawn values as a table. `axis` names x. `data` has the columns of the plot: x, then `stride` columns per
 * line (mean, minimum, maximum and, if it is smoothed, the smoothed mean). Columns without any value are left out.
 */
export function csvOf(axis, lines, data, stride) {
  const endings = ["", " min", " max", " smoothed"];
  const columns = [{ title: axis, values: data[0] }];
  for (const [place, line] of lines.entries()) {
    for (let offset = 0; offset < stride; offset += 1) {
      const values = data[place * stride + offset + 1];
      if (offset && values.every((value) => value === null || value === undefined)) continue;
      columns.push({ title: line.name + endings[offset], values });
    }
  }
  const rows = data[0].map((_, index) => columns.map(({ values }) => values[index] ?? "").join());
  return [columns.map(({ title }) => quoted(title)).join(), ...rows, ""].join("\r\n");
}

function quoted(text) {
  const safe = FORMULA.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
