// Numbers, times and sizes in the reader's notation. Pure.

import { fill, gettext, readersLocale } from "./i18n.js";
import { isUsual, metricName } from "./metric_names.js";

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86400;
// Created once: a new formatter costs as much as a hundred uses.
const LOCALE = readersLocale();
const TIME = new Intl.DateTimeFormat(LOCALE, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const MOMENT = new Intl.DateTimeFormat(LOCALE, {
  dateStyle: "medium",
  timeStyle: "long",
  hourCycle: "h23",
});
const DAY_MONTH = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short" });
const DAY_MONTH_YEAR = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short", year: "numeric" });
const COUNT = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const DIGITS = new Intl.NumberFormat(LOCALE, { maximumSignificantDigits: 4, useGrouping: false });
const PLACES = [0, 1, 2].map(
  (places) =>
    new Intl.NumberFormat(LOCALE, {
      minimumFractionDigits: places,
      maximumFractionDigits: places,
      useGrouping: false,
    }),
);
const ODD = { nan: "NaN", inf: "∞", "-inf": "−∞" };

const UNITS = [
  [/(utilisation|percent|cpu)$/, "%"],
  [/_mib$/, "MiB"],
  [/_gib$/, "GiB"],
  [/temperature_c$/, "°C"],
  [/power(_limit)?_w$/, "W"],
  [/_mhz$/, "MHz"],
  [/energy_j$/, "J"],
  [/_mib_per_second$/, "MiB/s"],
  [/_per_second$/, "/s"],
  [/_ms$/, "ms"],
  [/(_s|_seconds)$/, "s"],
];

/** Return a value with four significant digits, or the name `odd` if it is not finite. */
export function number(value, odd = "") {
  if (odd) return ODD[odd] ?? odd;
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return String(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2).replace("e+", "e");
  return size >= 1000 ? fixed(value, 0) : DIGITS.format(value);
}

/** Return a value with 0, 1 or 2 decimal places. */
export function fixed(value, places) {
  return PLACES[places].format(value);
}

/** Return a whole number with separated thousands. */
export function count(value) {
  return COUNT.format(value);
}

/** Return a value of a series: accuracies as percentages, others with their unit. */
export function measure(name, value, odd = "") {
  if (odd || value === null || value === undefined) return number(value, odd);
  if (isFraction(name) && value >= 0 && value <= 1)
    return `${fixed(100 * value, value > 0.995 && value < 1 ? 2 : 1)} %`;
  const unit = unitOf(name);
  const text = unit === "%" || unit === "MiB" ? number(Math.round(value * 10) / 10) : number(value);
  return unit ? `${text} ${unit}` : text;
}

function isFraction(name) {
  return /(accuracy|fraction|share)$/.test(name);
}

export function unitOf(name) {
  if (isFraction(name)) return "";
  return UNITS.find(([pattern]) => pattern.test(name))?.[1] ?? "";
}

/** Return seconds as 4.2 s, 3 min 20 s, 2 h 05 min or 3 d 4 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 10) return fill(gettext("{seconds} s"), { seconds: fixed(seconds, 1) });
  const whole = Math.round(seconds);
  if (whole < MINUTE) return fill(gettext("{seconds} s"), { seconds: whole });
  const minutes = Math.floor(whole / MINUTE);
  if (whole < HOUR) return fill(gettext("{minutes} min {seconds} s"), { minutes, seconds: pad(whole % MINUTE) });
  const hours = Math.floor(whole / HOUR);
  if (whole < DAY) return fill(gettext("{hours} h {minutes} min"), { hours, minutes: pad(minutes % MINUTE) });
  return fill(gettext("{days} d {hours} h"), { days: Math.floor(whole / DAY), hours: hours % 24 });
}

/** Return the time of a step, which is often far below a second. */
export function stepTime(seconds) {
  return seconds < 1
    ? fill(gettext("{milliseconds} ms"), { milliseconds: number(Math.round(1000 * seconds)) })
    : duration(seconds);
}

export function age(seconds) {
  return fill(gettext("{duration} ago"), { duration: duration(Math.max(0, seconds)) });
}

export function bytes(size) {
  if (size < 1024) return `${size} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let value = size / 1024;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${fixed(value, value < 10 ? 1 : 0)} ${units[unit]}`;
}

/**
 * Return an ISO time, or seconds since 1970, as a local clock time, with the day if it is not today, and with the year
 * if it is not this one.
 */
export function clock(moment) {
  const date = dateOf(moment);
  if (Number.isNaN(date.getTime())) return "–";
  const time = TIME.format(date);
  const now = new Date();
  if (date.toDateString() === now.toDateString()) return time;
  const day = date.getFullYear() === now.getFullYear() ? DAY_MONTH : DAY_MONTH_YEAR;
  return `${day.format(date)} ${time}`;
}

/** Return an ISO time, or seconds since 1970, with day, time and zone. */
export function moment(at) {
  const date = dateOf(at);
  return Number.isNaN(date.getTime()) ? "" : MOMENT.format(date);
}

function dateOf(moment) {
  return new Date(typeof moment === "number" ? moment * 1000 : moment);
}

/** Return the name of a metric as words, for both `validation_loss` and `train/loss`. */
export function readableName(name) {
  return metricName(wordsOf(name));
}

/** Return the legend of the training or validation half of a metric: in English if the name of the metric is too. */
export function halfName(name, half) {
  return isUsual(wordsOf(name)) ? metricName(half) : half;
}

function wordsOf(name) {
  const text = name.replaceAll("_", " ").replaceAll("/", " ").trim();
  const first = /^(gpu|cpu)\b/.test(text) ? text.slice(0, 3).toUpperCase() : text.charAt(0).toUpperCase();
  return first + text.slice(first.length);
}

/** Return a value as short text with sufficient precision: numbers have six significant digits. */
export function exactValue(value) {
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
  if (value === true) return gettext("on");
  if (value === false) return gettext("off");
  return value === null || value === undefined ? "–" : String(value);
}

/** Return a value that a schedule computed, with four digits, because further ones are noise. */
export function roundedValue(value) {
  return typeof value === "number" ? exactValue(Number(value.toPrecision(4))) : exactValue(value);
}

function pad(value) {
  return String(value).padStart(2, "0");
}
