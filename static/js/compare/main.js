// The comparison of runs: a chart for each metric with all runs, the list of runs, and tables.

import "../shared/page_frame.js";
import { ChartView } from "../chart/view.js";
import { setHidden, setText } from "../shared/dom.js";
import { getFragment, repeatedText } from "../shared/http.js";
import { fill, gettext } from "../shared/i18n.js";
import { formatValues, mergeRows } from "../shared/live_table.js";
import { Painter } from "../shared/painter.js";
import { readPalette } from "../shared/palette.js";
import { shortcut } from "../shared/shortcuts.js";
import { coloursOf, leaveOut, readAddress, writeAddress } from "./address.js";
import { FactCharts } from "./fact_charts.js";
import { RunLooks } from "./looks.js";
import { RunColumns } from "./run_columns.js";
import { CompareRunList } from "./run_list.js";
import { hitText, mayChange, Workspace } from "./workspace.js";

const REFRESH_MS = 3000;
// The curve of a group is computed from the curves of all its runs, so it is refreshed less often.
const REFRESH_GROUPS_MS = 15_000;
const PHONE = "(max-width: 767px)";

const page = JSON.parse(document.getElementById("compare-page").textContent);
const begun = readAddress(window.location.search);
const painter = new Painter();
const tables = [...document.querySelectorAll("[data-tables]")];
const status = document.getElementById("refreshed");
const field = document.getElementById("chart-search");
const colours = coloursOf(window.location.search, page.runs.length);
const looks = new RunLooks(colours, begun.hidden, changed, repaint);
const list = new CompareRunList(document.getElementById("tables-top"), page.runs, looks);
const columns = new RunColumns(tables, page.runs, looks);
let workspace = null;
let view = null;
let factCharts = null;
// Whether the tables are older than what the reader chose, because a request failed.
let lacksTables = false;
let facts = factsOf(document);
for (const run of page.runs) run.epochs = endsOf(run.id);

function repaint() {
  painter.request();
}

/** Follow a change of what the address tells; the pointer alone changes nothing of it. */
function changed() {
  repaint();
  writeView();
}

/** Write how the page is shown into its address. */
function writeView() {
  if (!workspace) return;
  const { zooms } = workspace;
  const query = writeAddress(window.location.search, {
    hidden: looks.hidden,
    over: view.chosen,
    search: field.value.trim(),
    zooms,
    facts: factCharts?.chosen ?? begun.facts,
    axes: factCharts ? factCharts.axes : begun.axes,
    ranges: factCharts?.ranges ?? begun.ranges,
    drawing: view,
    own: workspace.own,
    folds: workspace.folds,
  });
  if (`?${query}` === window.location.search) return;
  try {
    window.history.replaceState(null, "", `?${query}`);
  } catch {
    // Browsers allow some hundred changes per half minute, and a slider has as many: the next change writes it.
  }
}

function search() {
  const hits = workspace.search(field.value);
  setText(document.getElementById("chart-hits"), hitText(hits));
  document.getElementById("no-charts").hidden = hits.found > 0;
  changed();
}

function start() {
  const form = document.getElementById("chart-tools");
  view = new ChartView(form, (what) => {
    if (what === "over") workspace.overChanged();
    showEpochs();
    changed();
  });
  // An address that says how it is shown says all of it; otherwise the preferences of this browser count.
  if (begun.drawing) view.apply({ ...begun.drawing, over: begun.over || "step", attempt: Infinity });
  showEpochs();
  workspace = new Workspace({
    page,
    view,
    looks,
    place: document.getElementById("curves"),
    begun,
    onChange: changed,
    onPaint: repaint,
    onFailure: (error) => setText(status, workspace?.lacksCurves ? repeatedText(error) : error.message),
  });
  field.value = begun.search;
  field.addEventListener("input", search);
  search();
  form.querySelector("[data-reset-zoom]").addEventListener("click", () => workspace.resetZoom());
  document.getElementById("group-by")?.addEventListener("change", (event) => {
    const query = new URLSearchParams(window.location.search);
    // These refer to lines that no longer exist, or to ranges of other curves.
    for (const name of ["hidden", "baseline", "group", "colours"]) query.delete(name);
    if (event.target.value) query.set("group", event.target.value);
    window.location.search = query;
  });
  shortcut("z", () => workspace.resetZoom());
  shortcut("/", () => field.focus());
  document.addEventListener("pointermove", repaint, { passive: true });
}

/** Offer epochs as x axis if a run has places on it, and say how many runs are left out for lack of them. */
function showEpochs() {
  const { lines, without_epochs: without } = facts;
  if (view.allowEpochs(without < lines.length)) workspace?.overChanged();
  const note = document.getElementById("left-out");
  setHidden(note, !without || view.over !== "epoch");
  setText(note, fill(gettext("Runs without epochs are left out over epochs: {count}."), { count: without }));
}

async function refreshTables() {
  lacksTables = true;
  const address = new URL(window.location.href);
  address.searchParams.set("fragment", "1");
  const fresh = await getFragment(address);
  if (!fresh) return;
  formatValues(fresh);
  list.dress(fresh, workspace?.pointed);
  columns.dress(fresh);
  for (const place of tables) {
    for (const table of place.querySelectorAll("[data-table]")) {
      const wanted = fresh.querySelector(`[data-table=${table.dataset.table}]`);
      if (wanted?.rows.length === table.rows.length) mergeRows(table.rows, wanted.rows);
      else if (wanted) table.replaceWith(wanted);
    }
  }
  facts = factsOf(fresh);
  factCharts?.take(facts);
  for (const run of page.runs) {
    const row = document.querySelector(`[data-table=runs] tr[data-run="${run.id}"]`);
    if (page.group_by) continue;
    run.epochs = endsOf(run.id);
    run.group = row?.dataset.group ?? "ended";
    run.start = row?.dataset.start ? Number(row.dataset.start) : run.start;
    run.steps_per_epoch = Number(row?.dataset.stepsPerEpoch) || run.steps_per_epoch;
  }
  if (view) showEpochs();
  // The pressed button has the focus, so its cell was not replaced.
  for (const button of document.querySelectorAll("[data-baseline]"))
    button.setAttribute("aria-pressed", String(button.closest("tr").dataset.run === address.searchParams.get("baseline")));
  lacksTables = false;
}

/** Return the ends of a run's epochs, oldest first, as `mapping` takes them. */
function endsOf(id) {
  return (facts.epoch_ends[id] ?? []).map(([epoch, step]) => ({ epoch, step }));
}

function factsOf(root) {
  return JSON.parse(root.getElementById("compare-facts").textContent);
}

/** Show the importance of each parameter for the metric on the y axis of the scatter chart. */
async function showImportance(root) {
  const place = root.querySelector("[data-slot=importance]");
  place.hidden = false;
  setText(place, gettext("Computing …"));
  const query = new URLSearchParams({ target: root.querySelector("select[name=y]").value });
  for (const id of page.members) query.append("run", id);
  if (page.group_by) query.set("group", page.group_by);
  try {
    const answer = await getFragment(`${page.addresses.importance}?${query}`);
    if (answer) place.replaceChildren(...answer.body.childNodes);
  } catch (error) {
    setText(place, error.message);
  }
}

function startFactCharts(root) {
  factCharts = new FactCharts(root, page, looks, begun, changed);
  factCharts.take(facts);
  root.addEventListener("toggle", () => painter.request());
  root.querySelector("[data-importance]").addEventListener("click", () => showImportance(root));
}

/** Compare the others with a run, or with none if it is already the baseline. */
async function chooseBaseline(button) {
  const { run } = button.closest("tr").dataset;
  const address = new URL(window.location.href);
  if (button.getAttribute("aria-pressed") === "true") address.searchParams.delete("baseline");
  else address.searchParams.set("baseline", run);
  window.history.replaceState(null, "", address.search.replaceAll("%2C", ","));
  await refreshTables().catch((error) => setText(status, repeatedText(error)));
}

/** Let a link to the page without a run keep how the page is shown now, and the colours of the other runs. */
function keepView(link) {
  const place = page.runs.findIndex(({ id }) => String(id) === link.closest("tr").dataset.run);
  const left = new URL(link.href).searchParams.getAll("run");
  link.search = leaveOut(window.location.search, place, left, colours, Boolean(page.group_by));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-baseline]");
  if (button) chooseBaseline(button);
  const link = event.target.closest("[data-leave-out]");
  if (link) keepView(link);
});

async function refreshForEver() {
  const usualMs = page.group_by ? REFRESH_GROUPS_MS : REFRESH_MS;
  let pauseMs = usualMs;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    pauseMs = usualMs;
    if (document.hidden || !(workspace?.lacksCurves || lacksTables || page.runs.some(mayChange))) continue;
    let failure = null;
    // Curves before tables: the curve of a run that ends in between is then complete.
    for (const read of [() => workspace?.loadMissing(), () => workspace?.refresh(), refreshTables]) {
      try {
        await read();
      } catch (error) {
        failure = error;
      }
    }
    setText(status, failure ? repeatedText(failure) : "");
    pauseMs = Math.max(usualMs, failure?.retryAfterMs ?? 0);
  }
}

window.addEventListener("themechange", () => {
  readPalette();
  painter.request();
});
for (const place of tables) formatValues(place);
// On a phone, the first screen shows a curve.
if (window.matchMedia(PHONE).matches) document.getElementById("differences")?.removeAttribute("open");
if (field) start();
startFactCharts(document.getElementById("fact-charts"));
painter.add((now) => {
  workspace?.paint(now);
  factCharts.paint();
  list.dress(document, workspace?.pointed);
  columns.paint();
});
painter.request();
refreshForEver();
