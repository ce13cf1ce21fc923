// The run list: refreshes itself, filters while a person types, and supports keys.

import "../shared/page_frame.js";
import { closesByItself, setText } from "../shared/dom.js";
import { getFragment, repeatedText } from "../shared/http.js";
import { formatValues, mergeRows } from "../shared/live_table.js";
import { untilReleased, watchPresses } from "../shared/painter.js";
import { shortcut } from "../shared/shortcuts.js";
import { BranchSheet } from "../sheets/branch_sheet.js";
import { columnMenu } from "./column_menu.js";
import { filterSheet } from "./filter_sheet.js";
import { RunSelection } from "./run_selection.js";
import { selectionBar } from "./selection_bar.js";

const QUEUE_FOLD = "steersman-queue";
const OPEN = "open";
// On average, a row is half of this old; a list of 25 rows costs the server a few milliseconds.
const REFRESH_MS = 4000;
const TYPING_MS = 350;

watchPresses(document);
const place = document.getElementById("runs");
const filters = document.getElementById("filters");
const status = document.getElementById("refreshed");
const queue = document.getElementById("queue");
const hosts = document.getElementById("queue-hosts");
const columns = document.getElementById("columns");
const views = document.getElementById("views");
const order = document.getElementById("sort");

const bar = document.getElementById("compare");
let showBar = () => {};
const selection = new RunSelection(place, () => showBar());
showBar = selectionBar(bar, document.getElementById("bulk-told"), selection, () => refresh());
selection.show();
new BranchSheet();

async function fetchTable(part = "1") {
  const address = new URL(window.location.href);
  address.searchParams.set("fragment", part);
  return (await getFragment(address))?.body;
}

/** Fetch and show hosts and queue, which do not depend on filters, without moving the focus. */
async function refreshQueue() {
  const fresh = (await getFragment(new URL("?fragment=queue", window.location.href)))?.body;
  if (!fresh) return;
  formatValues(fresh);
  await untilReleased();
  const focused = hosts.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  hosts.replaceChildren(...fresh.childNodes);
  if (focused) hosts.querySelector(`[data-focus="${focused}"]`)?.focus({ preventScroll: true });
  showCounts();
}

/** Show in the heading, which also stays if the queue is folded, how many runs train and wait. */
function showCounts() {
  const counts = hosts.querySelector("[data-queue-counts]");
  setText(document.getElementById("queue-counts"), counts?.content.textContent ?? "");
}

/** Replace changed parts, row by row, so that focus, selection and scroll position are kept. */
function merge(fresh) {
  formatValues(fresh);
  const old = place.querySelector("tbody");
  const next = fresh.querySelector("tbody");
  // Another search or order changes the headings too.
  const sameHeads = outside(place) === outside(fresh);
  const sameRows = old && next && sameHeads && keys(old) === keys(next);
  if (!sameRows) {
    const focused = document.activeElement?.closest?.("tr[data-run]")?.dataset.run;
    const column = headOf(document.activeElement);
    const group = document.activeElement?.dataset?.group;
    place.replaceChildren(...fresh.childNodes);
    selection.show();
    if (group !== undefined) focusGroup(group);
    if (focused) place.querySelector(`tr[data-run="${focused}"] a`)?.focus({ preventScroll: true });
    if (column >= 0) focusHead(column);
    return;
  }
  mergeRows(old.rows, next.rows);
}

/** Return the index of the column with `node` in its head, -1 if there is none. */
function headOf(node) {
  const head = place.contains(node) ? node.closest("thead th") : null;
  return head ? [...head.parentElement.cells].indexOf(head) : -1;
}

function focusGroup(title) {
  place.querySelector(`[data-group="${CSS.escape(title)}"]`)?.focus({ preventScroll: true });
}

function focusHead(column) {
  place.querySelector("thead tr")?.cells[column]?.querySelector("a, input")?.focus({ preventScroll: true });
}

/** Return the parts around the rows: headings, chips, pages. */
function outside(root) {
  return [...root.querySelectorAll("thead, .chips, .search-problem, .list-foot")].map((node) => node.outerHTML).join();
}

function keys(body) {
  return [...body.rows].map((row) => row.dataset.run ?? `band ${row.dataset.band}`).join();
}

async function refresh() {
  const asked = window.location.href;
  try {
    const [fresh] = await Promise.all([fetchTable(), refreshQueue()]);
    await untilReleased();
    // If search or order has changed meanwhile, a newer answer will follow.
    if (fresh && asked === window.location.href) merge(fresh);
    setText(status, "");
  } catch (error) {
    setText(status, repeatedText(error));
  }
}

async function refreshForEver() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, REFRESH_MS));
    if (!document.hidden) await refresh();
  }
}

let typing;
function filterSoon(delay) {
  clearTimeout(typing);
  typing = setTimeout(() => {
    const chosen = new URLSearchParams([...new FormData(filters)].filter(([, value]) => value));
    show(`?${chosen}`);
  }, delay);
}

function show(query) {
  window.history.replaceState(null, "", query);
  // The list no longer matches a saved view.
  const name = views.querySelector(".view-name");
  setText(name, name.dataset.plain);
  views.querySelector("[aria-current]")?.removeAttribute("aria-current");
  return refresh();
}

/** Follow a link that changes the list alone, without a new page: chips, tags, groups and heads of columns. */
function follow(link) {
  const asked = new URL(link.href).searchParams;
  filters.elements.q.value = asked.get("q") ?? "";
  const wanted = asked.get("sort") ?? "";
  if (![...order.options].some((option) => option.value === wanted)) order.append(new Option(link.textContent, wanted));
  order.value = wanted;
  filters.elements.group.value = asked.get("group") ?? "";
  const column = headOf(link);
  const { group } = link.dataset;
  show(link.search || "?").then(() => {
    if (column >= 0) focusHead(column);
    else if (group !== undefined) focusGroup(group);
    else filters.elements.q.focus({ preventScroll: true });
  });
}

/** Fold the queue as its reader left it. Otherwise it is open if runs wait, except on a phone, where the runs come first. */
function foldQueue() {
  if (window.matchMedia("(max-width: 767px)").matches) queue.open = false;
  try {
    const kept = localStorage.getItem(QUEUE_FOLD);
    if (kept) queue.open = kept === OPEN;
  } catch {
    // a browser that stores nothing
  }
  queue.querySelector("summary").addEventListener("click", () => {
    try {
      // The click has not changed it yet.
      localStorage.setItem(QUEUE_FOLD, queue.open ? "folded" : OPEN);
    } catch {
      // it is folded for this visit alone
    }
  });
}

function move(by) {
  const links = [...place.querySelectorAll(".run-link")];
  const now = links.indexOf(document.activeElement);
  links[Math.max(0, Math.min(links.length - 1, now + by))]?.focus();
}

formatValues(place);
formatValues(hosts);
foldQueue();
filters.addEventListener("input", () => filterSoon(TYPING_MS));
filters.addEventListener("submit", (event) => {
  event.preventDefault();
  filterSoon(0);
});
filters.querySelector("[data-apply]").hidden = true;
filterSheet(filters);
place.addEventListener("click", (event) => {
  const link = event.target.closest("a.chip, a.tag, a[data-sort], a[data-group], a[data-narrow]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  follow(link);
});
document.getElementById("view-form")?.addEventListener("submit", (event) => {
  const { query } = event.target.elements;
  if (query) query.value = window.location.search.slice(1);
});
columnMenu(columns, () => fetchTable("columns"), () => filterSoon(0));
for (const menu of [views, columns, filters.querySelector(".search-help"), bar.querySelector(".export-choice")]) closesByItself(menu);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
shortcut("/", () => filters.querySelector("input[type=search]").focus());
shortcut("x", () => selection.toggleFocused(false));
shortcut("X", () => selection.toggleFocused(true));
shortcut("j", () => move(1));
shortcut("k", () => move(-1));
refreshForEver();
