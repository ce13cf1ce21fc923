// What the newest samples say of each GPU, each rank and the host: one row each, with its measures, and what slows it
// down.

import { fixed, measure, number, unitOf } from "../../shared/format.js";
import { fill, gettext } from "../../shared/i18n.js";
import { naturalOrder } from "../../shared/natural_order.js";
import { rankRows } from "./ranks.js";

const PERCENT = 100;
const HOTTEST_C = 100;
// `of` is the series that holds the most, `most` the same as a number.
const OF_GPU = [
  { title: gettext("Utilisation"), part: "utilisation", most: PERCENT },
  { title: gettext("Memory"), part: "memory_used_mib", of: "memory_total_mib" },
  { title: gettext("Power"), part: "power_w", of: "power_limit_w" },
  { title: gettext("Temperature"), part: "temperature_c", most: HOTTEST_C },
];
const OF_HOST = [
  { title: gettext("CPU"), part: "cpu", most: PERCENT },
  { title: gettext("Memory"), part: "memory_used_mib", of: "memory_total_mib" },
  { title: gettext("CPU of the training"), part: "worker_cpu" },
  { title: gettext("Memory of the training"), part: "worker_rss_mib", of: "memory_total_mib" },
  { title: gettext("Free on the disk"), part: "disk_free_gib" },
];
const GPU = /^gpu\/([^/]+)\//;
// Bits of NVML. An idle GPU, bit 1, lowers its clocks too: that is no throttling.
const THROTTLES = [
  [0x2, gettext("its clocks are set lower")],
  [0x4, gettext("it draws all the power that its limit allows")],
  [0x8, gettext("its hardware asked for it")],
  [0x10, gettext("its clock is synchronised with other GPUs")],
  [0x20, gettext("its driver reports that it is too hot")],
  [0x40, gettext("its hardware reports that it is too hot")],
  [0x80, gettext("its power supply is at its limit")],
  [0x100, gettext("it drives a display")],
];
const KNOWN = THROTTLES.reduce((sum, [bit]) => sum | bit, 0x1);
// A GPU is idle if it was used less than this over so many samples, one per second.
const IDLE_PERCENT = 5;
const IDLE_SAMPLES = 30;
const MIB_A_GIB = 1024;

/**
 * Return the rows [{id, title, cells, note, isIdle}] of the machine: GPUs in natural order, the ranks if there are
 * several, the host last. A cell is {title, name, text, most}; `most` is the upper end of its strip, null if there is
 * none. `latest` has the newest points by series, `recent(name)` returns the newest values of a series.
 */
export function machineRows(latest, recent, run, environment) {
  const gpus = [...new Set(Object.keys(latest).map((name) => GPU.exec(name)?.[1]).filter((id) => id !== undefined))];
  const rows = gpus.sort(naturalOrder).map((id) => ({
    ...rowOf(`gpu/${id}`, `GPU ${id}`, OF_GPU, latest),
    note: throttledText(latest[`gpu/${id}/throttle_reasons`]?.value ?? 0),
    isIdle: isIdle(recent(`gpu/${id}/utilisation`)),
  }));
  rows.push(...rankRows(latest, recent, run, environment).map((row) => ({ ...row, isIdle: false })));
  const host = rowOf("host", gettext("Host"), OF_HOST, latest);
  return host.cells.length ? [...rows, { ...host, note: "", isIdle: false }] : rows;
}

function rowOf(id, title, measures, latest) {
  const cells = measures.map((wanted) => cellOf(id, wanted, latest)).filter(Boolean);
  return { id, title, cells };
}

function cellOf(id, { title, part, of, most = null }, latest) {
  const name = `${id}/${part}`;
  const point = latest[name];
  if (!point) return null;
  const whole = of ? (latest[`${id}/${of}`]?.value ?? null) : most;
  return { title, name, text: textOf(name, point, of ? whole : null), most: whole };
}

/** Return a value with its unit, and what it is a part of: memory in GiB. */
function textOf(name, { value, nonfinite }, whole) {
  if (whole === null || value === null) return measure(name, value, nonfinite);
  if (name.endsWith("_mib")) return `${fixed(value / MIB_A_GIB, 1)} / ${fixed(whole / MIB_A_GIB, 1)} GiB`;
  return `${number(value)} / ${number(whole)} ${unitOf(name)}`;
}

function throttledText(mask) {
  const reasons = throttleText(mask);
  return reasons && fill(gettext("Throttled: {reasons}."), { reasons });
}

/** Return why a GPU is throttled, in words; "" if it is not. `mask` holds NVML's bits. */
export function throttleText(mask) {
  const texts = THROTTLES.filter(([bit]) => mask & bit).map(([, text]) => text);
  const unknown = mask & ~KNOWN;
  if (unknown) texts.push(`NVML 0x${unknown.toString(16)}`);
  return texts.join("; ");
}

/** Return whether a GPU did nothing for a while; not before there are samples enough. */
export function isIdle(utilisation) {
  const recent = utilisation.slice(-IDLE_SAMPLES);
  return recent.length === IDLE_SAMPLES && recent.every((value) => value !== null && value < IDLE_PERCENT);
}
