// The charts of a comparison, in groups. Each chart is created and loaded when it comes close to the visible part.

import { ChartGroup } from "../chart/group.js";
import { cardButtons } from "../panels/charts/card_buttons.js";
import { ChartPreferences } from "../panels/charts/preferences.js";
import { measureOf } from "../panels/charts/series_names.js";
import { element } from "../shared/dom.js";
import { getPart } from "../shared/http.js";
import { fill, gettext } from "../shared/i18n.js";
import { ChartSection } from "./chart_section.js";
import { decodeCurves } from "./curves.js";
import { MetricChart } from "./metric_chart.js";
import { chartSearch } from "./search.js";

const BUCKETS = 400;
const FINE_BUCKETS = 1200;
// The maximum number of curves and names in one request.
const CURVES_AT_ONCE = 200;
const NAMES_AT_ONCE = 32;
// Charts that come close at the same time are requested together.
const GATHER_MS = 40;
const SETTLE_MS = 150;
const PAINTED_AT_ONCE = 6;

/** Return whether a run may get new points without being started again. */
export function mayChange(run) {
  return run.group !== "ended";
}

export class Workspace {
  /** The chart that the pointer was at last: the list of runs shows its values. */
  pointed = null;
  #page;
  #view;
  #looks;
  #onChange;
  #onPaint;
  #onFailure;
  #preferences;
  // By key: {offer, shell, home}, the section in which a chart is unless it is pinned.
  #shells = new Map();
  #pinned;
  #sections = [];
  #text = "";
  #charts = new Map();
  // Charts that lack curves because a request failed.
  #lacking = new Set();
  // By key: the own log axis and range of charts that do not exist yet.
  #own;
  #groups = new Map();
  #zooms;
  #waiting = new Set();
  #gather = 0;
  #settle = 0;
  #next = 0;
  #sight;

  /**
   * `begun` has the initial {from, to} by x as `zooms`, log axis and range of charts as `own`, and `folds`.
   * `onPaint()` requests a paint, `onChange()` also after a change of what is returned here; `onFailure(error)` is
   * called if a request fails.
   */
  constructor({ page, view, looks, place, begun, onChange, onPaint, onFailure }) {
    this.#page = page;
    this.#view = view;
    this.#looks = looks;
    this.#zooms = begun.zooms;
    this.#own = new Map(Object.entries(begun.own));
    this.#onChange = onChange;
    this.#onPaint = onPaint;
    this.#onFailure = onFailure;
    this.#preferences = new ChartPreferences(page, () => page.may_pin);
    this.#sight = new IntersectionObserver((entries) => this.#seen(entries), { rootMargin: "400px" });
    this.#pinned = this.#addSection({ key: "pinned", title: gettext("Pinned"), open: true }, begun.folds);
    for (const group of page.groups) {
      const home = this.#addSection(group, begun.folds);
      for (const offer of group.charts) this.#addShell(offer, home);
    }
    this.#arrange();
    place.append(...this.#sections.map(({ root }) => root));
  }

  /** Return {from, to} by x of the zoomed charts. */
  get zooms() {
    const zoomed = [...this.#groups].filter(([, group]) => group.zoom);
    return new Map([...this.#zooms, ...zoomed.map(([x, group]) => [x, group.zoom])]);
  }

  /** Return the own log axis and range of charts that have one: {key: {log, range}}. */
  get own() {
    const own = [...this.#charts].map(([key, { chart }]) => [key, chart.own]);
    return Object.fromEntries([...this.#own, ...own.filter(([, { log, range }]) => log !== null || range)]);
  }

  /** Return which sections a person opened or folded: {key: isOpen}. */
  get folds() {
    return Object.fromEntries(this.#sections.filter(({ fold }) => fold !== undefined).map(({ key, fold }) => [key, fold]));
  }

  paint(now) {
    const charts = [...this.#charts.values()];
    let painted = 0;
    for (let turn = 0; turn < charts.length; turn += 1) {
      const place = (this.#next + turn) % charts.length;
      if (!charts[place].paint(now)) continue;
      painted += 1;
      if (painted < PAINTED_AT_ONCE) continue;
      this.#next = place + 1;
      this.#onPaint();
      return;
    }
  }

  resetZoom() {
    for (const group of this.#groups.values()) group.reset();
  }

  /** Update all charts after a change of the unit of x: they use the zoom of the new unit. */
  overChanged() {
    for (const chart of this.#charts.values()) chart.join(this.#groupOf(chart.x));
    // The curves of groups are computed for one x; those of runs have steps and times.
    if (this.#page.group_by) this.#clear();
    this.#refineSoon();
    this.#onChange();
  }

  /** Show the charts that match a search; return {found, all, error}. */
  search(text) {
    this.#text = text;
    const { matches, error } = chartSearch(text);
    const found = new Map(this.#sections.map((section) => [section, 0]));
    for (const entry of this.#shells.values()) {
      const isFound = matches(entry.offer.name);
      this.#rootOf(entry).hidden = !isFound;
      const section = this.#sectionOf(entry);
      found.set(section, found.get(section) + Number(isFound));
    }
    for (const [section, own] of found) section.show(own, Boolean(text.trim()));
    const sum = [...found.values()].reduce((one, other) => one + other, 0);
    return { found: sum, all: this.#shells.size, error };
  }

  /** Reload the visible charts of runs that may still change, or of the runs for which `wanted(run)` is true. */
  async refresh(wanted = mayChange) {
    const runs = this.#page.runs.filter(wanted);
    const charts = [...this.#charts.values()].filter(({ chart }) => chart.isVisible);
    await this.#load(charts, runs);
    this.#refineSoon();
  }

  /** Whether charts lack curves because a request failed. */
  get lacksCurves() {
    return this.#lacking.size > 0;
  }

  /** Load the curves of all runs for the charts that lack some. */
  async loadMissing() {
    const charts = [...this.#lacking];
    this.#lacking.clear();
    await this.#load(charts, this.#page.runs);
  }

  #clear() {
    for (const chart of this.#charts.values()) chart.clear();
    this.#load([...this.#charts.values()], this.#page.runs).catch(this.#onFailure);
  }

  #addSection(group, folds) {
    const section = new ChartSection(group, folds[group.key], this.#onChange);
    this.#sections.push(section);
    return section;
  }

  #addShell(offer, home) {
    const shell = element(
      "div",
      { class: "card chart-card chart-shell", "data-key": offer.key },
      element("h3", { class: "chart-title", text: offer.name }),
    );
    this.#shells.set(offer.key, { offer, shell, home });
    this.#sight.observe(shell);
  }

  /** Put each chart into its section: the pinned ones into the first. */
  #arrange() {
    const entries = [...this.#shells.values()];
    for (const section of this.#sections)
      section.hold(entries.filter((entry) => this.#sectionOf(entry) === section).map((entry) => this.#rootOf(entry)));
    this.search(this.#text);
  }

  #sectionOf({ offer, home }) {
    return this.#preferences.isPinned(pinOf(offer)) ? this.#pinned : home;
  }

  #rootOf({ offer, shell }) {
    return this.#charts.get(offer.key)?.chart.root ?? shell;
  }

  #pinsChanged() {
    this.#arrange();
    for (const { showPin } of this.#charts.values()) showPin();
    this.#onChange();
  }

  #groupOf(x) {
    if (this.#groups.has(x)) return this.#groups.get(x);
    const group = new ChartGroup({ mapping: () => null, onChange: () => this.#zoomChanged(x) });
    this.#groups.set(x, group);
    const zoom = this.#zooms.get(x);
    if (zoom) group.zoomTo(zoom.from, zoom.to);
    return group;
  }

  #zoomChanged(x) {
    if (!this.#groups.get(x)?.zoom) this.#zooms.delete(x);
    this.#refineSoon();
    this.#onChange();
  }

  #seen(entries) {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      this.#sight.unobserve(target);
      this.#waiting.add(target.dataset.key);
    }
    clearTimeout(this.#gather);
    if (this.#waiting.size) this.#gather = setTimeout(() => this.#build(), GATHER_MS);
  }

  #build() {
    const made = [...this.#waiting].map((key) => this.#make(this.#shells.get(key)));
    this.#waiting.clear();
    this.#load(made, this.#page.runs).catch(this.#onFailure);
  }

  #make({ offer, shell }) {
    const { runs } = this.#page;
    // The pages of runs have no pins for charts of epochs.
    const pin = isOfEpochs(offer) ? null : cardButtons(pinOf(offer), this.#preferences, () => this.#pinsChanged(), offer.name);
    const chart = new MetricChart({
      offer,
      pin,
      runs,
      view: this.#view,
      looks: this.#looks,
      group: this.#groupOf("step"),
      onSeen: this.#onChange,
      onNear: (id) => {
        this.pointed = chart;
        this.#looks.point(id);
        this.#onPaint();
      },
    });
    chart.join(this.#groupOf(chart.x));
    chart.chart.root.hidden = shell.hidden;
    shell.replaceWith(chart.chart.root);
    this.#charts.set(offer.key, chart);
    if (this.#own.has(offer.key)) chart.chart.setOwn(this.#own.get(offer.key));
    this.#own.delete(offer.key);
    this.pointed ??= chart;
    return chart;
  }

  async #load(charts, runs) {
    if (!runs.length) return;
    let failure = null;
    for (const { x, part } of this.#parts(charts, runs)) {
      let found;
      try {
        found = await this.#fetch(part, runs, { x, buckets: BUCKETS });
      } catch (error) {
        failure = error;
        for (const chart of part) this.#lacking.add(chart);
        continue;
      }
      for (const curve of found) {
        const chart = this.#charts.get(curve.key);
        if (!this.#page.group_by || chart.x === x) chart.put(curve.run, curve);
      }
      this.#onPaint();
    }
    if (this.#zooms.size) this.#refineSoon();
    // One part that fails keeps no other from being loaded.
    if (failure) throw failure;
  }

  #refineSoon() {
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => this.#refine().catch(this.#onFailure), SETTLE_MS);
  }

  async #refine() {
    for (const [x, group] of this.#groups) {
      const { zoom } = group;
      if (!zoom) continue;
      const charts = [...this.#charts.values()].filter(
        (chart) => chart.x === x && chart.chart.isVisible && chart.isCoarse && !isOfEpochs(chart),
      );
      for (const { part } of this.#parts(charts, this.#page.runs)) {
        const found = await this.#fetch(part, this.#page.runs, { x, from: zoom.from, to: zoom.to, buckets: FINE_BUCKETS });
        if (group.zoom !== zoom) break;
        for (const curve of found) this.#charts.get(curve.key).putFine(zoom, curve.run, curve);
        this.#onPaint();
      }
    }
  }

  /** Return [{x, part}]: the charts in parts that fit into one request for all runs; groups are requested by x. */
  #parts(charts, runs) {
    const { group_by: isGrouped, members } = this.#page;
    const size = Math.max(1, Math.min(NAMES_AT_ONCE, Math.floor(CURVES_AT_ONCE / (isGrouped ? members : runs).length)));
    const found = [];
    const xOf = (chart) => (isGrouped ? chart.x : "step");
    for (const x of new Set(charts.map(xOf))) {
      const own = charts.filter((chart) => xOf(chart) === x);
      for (let at = 0; at < own.length; at += size) found.push({ x, part: own.slice(at, at + size) });
    }
    return found;
  }

  async #fetch(charts, runs, more) {
    const { group_by: group, members } = this.#page;
    const query = new URLSearchParams(group ? { ...more, group } : more);
    for (const id of group ? members : runs.map((run) => run.id)) query.append("run", id);
    for (const { key } of charts) query.append("name", key);
    const response = await getPart(`${this.#page.addresses.curves}?${query}`);
    return response ? decodeCurves(await response.arrayBuffer()) : [];
  }
}

function isOfEpochs({ key }) {
  return key.startsWith("epoch:");
}

/** Return the name by which a chart is pinned, also on the pages of runs, which have one chart for a measure of all GPUs. */
function pinOf({ axis, name, pin }) {
  return axis === "time" ? measureOf(name) : pin;
}

/** Return the text below the search field. */
export function hitText({ found, all, error }) {
  if (error) return gettext("This pattern is not a valid regular expression.");
  if (found === all) return "";
  return found ? fill(gettext("{found} of {all} charts"), { found, all }) : gettext("No chart has this in its name.");
}
