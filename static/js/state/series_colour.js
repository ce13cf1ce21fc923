// The colour of a series, and the parts of its name that determine it. Pure.

const NUMBER = /^\d+$/;
const VALIDATION = /^val(idation)?[/_]/;
const GROUP_COLOURS = new Map([["optimizer", 2], ["speed", 3], ["layers", 4], ["gpu", 2], ["host", 3]]);
const [FIRST_OTHER, OTHER_COLOURS] = [2, 3];

/** Return the first part of a name, by which charts are grouped. */
export function prefixOf(name) {
  const slash = name.indexOf("/");
  return slash < 0 ? "" : name.slice(0, slash);
}

/** Return the number of the device of a machine series, null if it has none. */
export function deviceOf(name) {
  return name.split("/").find((part) => NUMBER.test(part)) ?? null;
}

/**
 * Return the colour of a series or an epoch metric, the same in charts, legends and cards. It depends on the name alone,
 * because other series may come later: training is blue, validation orange, and a device has the colour of its number.
 */
export function colourOf(name, axis) {
  const device = axis === "time" ? deviceOf(name) : null;
  if (device !== null) return Number(device);
  if (VALIDATION.test(name)) return 1;
  const prefix = prefixOf(name);
  if (prefix === "" || prefix === "train") return 0;
  const sum = [...prefix].reduce((before, letter) => (31 * before + letter.codePointAt(0)) % 65_521, 0);
  return GROUP_COLOURS.get(prefix) ?? FIRST_OTHER + (sum % OTHER_COLOURS);
}
