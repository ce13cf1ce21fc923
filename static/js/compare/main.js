// Several runs compared: one series of each over the others, tables beside it; what may still change stays fresh.

import "../shared/page_frame.js";
import { swatchOf } from "../chart/frame.js";
import { ChartView } from "../chart/view.js";
import { setText } from "../shared/dom.js";
import { measure } from "../shared/format.js";
import { gettext } from "../shared/i18n.js";
import { formatValues, mergeRows } from "../shared/live_table.js";
import { Painter } from "../shared/painter.js";
import { lineColour, readPalette } from "../shared/palette.js";
import { shortcut } from "../shared/shortcuts.js";
import { CompareChart, mayChange } from "./chart.js";

const REFRESH_MS = 3000;

const page = JSON.parse(document.getElementById("compare-page").textContent);
const chooser = document.getElementById("series");
const painter = new Painter();
const request = () => painter.request();
const tables = [document.getElementById("tables-top"), document.getElementById("tables-bottom")];
const status = document.getElementById("refreshed");
let chart = null;

if (chooser) {
  const view = new ChartView(document.getElementById("chart-tools"), (what) => {
    if (what === "over") chart.reset();
    request();
  });
  chart = new CompareChart(page, view, document.getElementById("curves"), request);
  chooser.addEventListener("change", () => choose(chooser.value));
  document.querySelector("[data-reset-zoom]").addEventListener("click", () => chart.reset());
  shortcut("z", () => chart.reset());
  painter.add((now) => {
    chart.paint(now);
    dress(document);
  });
}

async function choose(name) {
  const address = new URL(window.location.href);
  address.searchParams.set("series", name);
  window.history.replaceState(null, "", address);
  await attempt(() => chart.show(name));
}

/** Give each run its piece of line and the values of the series that is drawn. */
function dress(root) {
  const head = root.querySelector("[data-slot=extreme-head]");
  if (head && chart) setText(head, chart.lowest ? gettext("Lowest value") : gettext("Highest value"));
  page.runs.forEach((run, place) => {
    const row = root.querySelector(`[data-table=runs] tr[data-run="${run.id}"]`);
    if (!row || !chart) return;
    const slot = (name) => row.querySelector(`[data-slot=${name}]`);
    const look = chart.lookOf(place);
    if (!slot("swatch").firstChild) slot("swatch").append(swatchOf(look));
    slot("swatch").querySelector("line").setAttribute("stroke", lineColour(look.colour));
    const { last, odd, extreme } = chart.valuesOf(run.id);
    setText(slot("last"), measure(chart.name, last, odd));
    setText(slot("extreme"), measure(chart.name, extreme));
  });
}

async function refreshTables() {
  const address = new URL(window.location.href);
  address.searchParams.set("fragment", "1");
  const response = await fetch(address, { headers: { "X-Requested-With": "fetch" }, redirect: "manual" });
  if (response.type === "opaqueredirect") {
    window.location.reload();
    return;
  }
  if (!response.ok) throw new Error(`status ${response.status}`);
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  formatValues(fresh);
  dress(fresh);
  for (const place of tables) {
    for (const table of place.querySelectorAll("[data-table]")) {
      const wanted = fresh.querySelector(`[data-table=${table.dataset.table}]`);
      if (wanted?.rows.length === table.rows.length) mergeRows(table.rows, wanted.rows);
      else if (wanted) table.replaceWith(wanted);
    }
  }
  for (const run of page.runs) {
    const row = document.querySelector(`[data-table=runs] tr[data-run="${run.id}"]`);
    run.group = row?.dataset.group ?? "ended";
    run.start = row?.dataset.start ? Number(row.dataset.start) : run.start;
  }
}

async function attempt(work) {
  try {
    await work();
    setText(status, "");
  } catch {
    setText(status, gettext("The portal does not answer; trying again."));
  }
}

async function refreshForEver() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, REFRESH_MS));
    if (document.hidden || !page.runs.some(mayChange)) continue;
    await attempt(async () => {
      // First what is drawn: a run that ends between the two is drawn to its end, and then left alone.
      await chart?.refresh();
      await refreshTables();
    });
  }
}

window.addEventListener("themechange", () => {
  readPalette();
  request();
});
for (const place of tables) formatValues(place);
if (chart) attempt(() => chart.show(chooser.value));
refreshForEver();
