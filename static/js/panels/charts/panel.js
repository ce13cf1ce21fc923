// All charts of a run: series grouped by the first part of their name, machine samples over time, pinned charts first.

import { knowsEpochs, mapping } from "../../chart/axes.js";
import { Chart } from "../../chart/chart.js";
import { ChartGroup } from "../../chart/group.js";
import { element, icon, setText } from "../../shared/dom.js";
import { getJson } from "../../shared/http.js";
import { gettext } from "../../shared/i18n.js";
import { changeDetector } from "../../shared/painter.js";
import { addedSeries } from "./added_series.js";
import { chartsOf, groupsOf, isCrowded, openAtFirst } from "./arrangement.js";
import { cardButtons } from "./card_buttons.js";
import { RunClock } from "./clock.js";
import { noMetricsText } from "./empty_charts_text.js";
import { ChartFinder } from "./finder.js";
import { epochLineNames } from "./epoch_lines.js";
import { GroupPlace } from "./group_place.js";
import { ChartLines } from "./lines.js";
import { ChartPreferences } from "./preferences.js";
import { inOrder, moved, moveHandle } from "./ordering.js";

// If more charts than this are visible, they are painted in turns, so that the page stays responsive.
const PAINTED_AT_ONCE = 6;
// The number of charts that a group shows at first, and that its button adds.
const SHOWN_AT_ONCE = 60;
// On a crowded page, few enough to keep the following groups within reach.
const SHOWN_OF_CROWD = 12;
const SHOWN_ON_A_PHONE = 4;
const PHONE = "(max-width: 767px)";

export class ChartPanel {
  #state;
  #page;
  #onSeen;
  #view;
  #marks;
  #near;
  #sections;
  #clock;
  #zooms;
  #lines;
  #preferences;
  #finder;
  // By id, the keys of the charts of each group as they are shown.
  #shown = new Map();
  #places = new Map();
  #charts = new Map();
  // By key: the own log axis and range of charts that do not exist yet.
  #own = new Map();
  #next = 0;
  #hasPainted = false;
  #layoutChanged = changeDetector();
  // What the epochs recorded, as names of lines.
  #perEpoch = [];
  #epochsChanged = changeDetector();

  /**
   * `view` is how all charts are drawn, `marks` has the interventions; `onSeen()` requests a paint, and `near` observes
   * which charts are visible.
   */
  constructor(state, page, view, marks, onSeen, near) {
    this.#state = state;
    this.#page = page;
    this.#view = view;
    this.#marks = marks;
    this.#onSeen = onSeen;
    this.#near = near;
    this.#sections = { step: document.getElementById("charts"), time: document.getElementById("machine") };
    this.#clock = new RunClock(state, view);
    // All charts over steps share one zoom; those of the machine share another.
    this.#zooms = { step: this.#zoomOf("step"), time: this.#zoomOf("time") };
    this.#lines = new ChartLines(state, view, this.#zooms, this.#clock);
    // Until the socket tells who the viewer is, the role at the load of the page counts.
    this.#preferences = new ChartPreferences(page, () => (state.viewer ? state.viewer.may.length > 0 : page.may_pin));
    this.#finder = new ChartFinder(onSeen);
  }

  #zoomOf(axis) {
    return new ChartGroup({
      onChange: this.#onSeen,
      mapping: () => this.#clock.mapping(axis),
      fetchRange: this.fetchRange,
      attemptsOf: (name) => new Set(this.#state.series.get(name)?.parts.keys()),
    });
  }

  paint(now) {
    this.#marks.refresh();
    // Until the history has arrived, it is unknown whether there are metrics.
    const { run, versions, viewer } = this.#state;
    if (this.#epochsChanged(versions.epochs)) this.#perEpoch = epochLineNames(this.#state.epochs);
    const arranged = [this.#preferences.version, this.#perEpoch.length, this.#finder.version, Boolean(viewer?.may.length)];
    if (versions.layout && this.#layoutChanged(versions.layout, run?.state, ...arranged)) this.#layOut();
    // A zoom is in the unit of x. Before the run is known, its epochs are not.
    if (run && this.#view.allowEpochs(knowsEpochs(this.#clock.read()))) this.#zooms.step.reset();
    this.#view.offerAttempts(this.#state.attempts);
    const charts = [...this.#charts.values()];
    if (this.#paintFirst(charts, now)) return;
    let painted = 0;
    for (let turn = 0; turn < charts.length; turn += 1) {
      const place = (this.#next + turn) % charts.length;
      if (!charts[place].chart.paint(now)) continue;
      painted += 1;
      if (painted < PAINTED_AT_ONCE) continue;
      this.#next = place + 1;
      this.#onSeen();
      return;
    }
  }

  /** Paint the first visible chart alone, so that a new page shows a curve soon; return whether it did. */
  #paintFirst(charts, now) {
    if (this.#hasPainted || !charts.length) return false;
    this.#hasPainted = true;
    const isPainted = Boolean(charts.find(({ chart }) => chart.measure())?.chart.paint(now));
    if (isPainted) this.#onSeen();
    return isPainted;
  }

  get preferences() {
    return this.#preferences;
  }

  /** Return the part of the view that `ChartView.describe` does not return. */
  describe() {
    const keys = chartsOf(this.#state.series).map(({ key }) => key);
    const own = [...this.#charts].map(([key, { chart }]) => [key, chart.own]).filter(([, { log, range }]) => log !== null || range);
    return {
      zooms: { step: this.#zooms.step.zoom, time: this.#zooms.time.zoom },
      pins: keys.filter((key) => this.#preferences.isPinned(key)),
      find: this.#finder.text,
      own: Object.fromEntries([...this.#own, ...own]),
      added: this.#preferences.added,
    };
  }

  /** Show a view that `describe` returned. */
  apply({ zooms, pins, find, own, added }) {
    for (const [axis, zoom] of Object.entries(zooms)) if (zoom) this.#zooms[axis].zoomTo(zoom.from, zoom.to);
    this.#preferences.follow({ pins, added });
    this.#own = new Map(Object.entries(own));
    if (find) this.#finder.find(find);
  }

  resetZoom() {
    for (const zoom of Object.values(this.#zooms)) zoom.reset();
  }

  /** Request finer data for zoomed curves, because another attempt was chosen. */
  refine() {
    for (const zoom of Object.values(this.#zooms)) zoom.refine();
  }

  /**
   * Return the interventions, and the alerts of the series `names`, for a chart of an axis; over epochs, it converts
   * their steps.
   */
  marksOver(axis, names = []) {
    const over = () => (axis === "epoch" ? mapping("epoch", this.#clock.read()) : this.#clock.mapping(axis));
    return {
      version: () => `${this.#marks.version} ${this.#clock.version}`,
      read: () => this.#marks.over(over(), axis === "time", names),
    };
  }

  /** Fetch finer charts by name. */
  fetchRange = async (names, from, to, buckets, by) => {
    const query = new URLSearchParams({ from, to, buckets, by, by_attempt: true });
    for (const name of names) query.append("name", name);
    return (await getJson(`${this.#page.addresses.points}?${query}`, this.#page.addresses.login)).series;
  };

  #layOut = () => {
    const preferences = this.#preferences;
    const charts = chartsOf(
      this.#state.series,
      (key) => preferences.addedTo(key),
      (name) => this.#state.series.has(name) || this.#perEpoch.includes(name),
    );
    const { filter, showsHidden } = this.#finder;
    const isWanted = ({ key }) => filter.matches(key) && (showsHidden || !preferences.isHidden(key));
    const groups = groupsOf(charts, (key) => preferences.isPinned(key));
    const crowded = isCrowded(charts);
    const open = openAtFirst(groups, crowded);
    for (const group of groups) {
      const place = this.#placeOf(group, open.has(group.id), crowded);
      const ordered = inOrder(group.charts, preferences.orderOf(group.id));
      this.#shown.set(group.id, ordered.map(({ key }) => key));
      place.show(ordered.filter(isWanted), ordered.length, filter.isOn, (chart) => this.#rootOf(chart));
    }
    for (const [id, place] of this.#places) if (!groups.some((group) => group.id === id)) place.root.hidden = true;
    const hidden = charts.filter(({ key }) => preferences.isHidden(key)).length;
    const found = charts.filter(isWanted).length;
    this.#finder.tell(found, charts.length, hidden);
    this.#showEmptiness(charts, filter.isOn && !found);
    this.#onSeen();
  };

  #placeOf({ id, axis, prefix }, isOpen, crowded) {
    const known = this.#places.get(id);
    if (known) return known;
    const most = window.matchMedia(PHONE).matches ? SHOWN_ON_A_PHONE : SHOWN_OF_CROWD;
    const place = new GroupPlace({
      prefix,
      isOpen: this.#preferences.isOpen(id) ?? isOpen,
      shownAtOnce: crowded ? most : SHOWN_AT_ONCE,
      resetButton: this.#zooms[axis].resetButton(),
      onFold: (opened) => {
        this.#preferences.setOpen(id, opened);
        this.#layOut();
      },
      onMore: this.#layOut,
      onDrop: (key, target) => this.#move(id, key, target),
    });
    place.standIn(this.#sections[axis]);
    this.#places.set(id, place);
    return place;
  }

  #move(id, key, target) {
    this.#preferences.setOrder(id, moved(this.#shown.get(id), key, target));
    this.#layOut();
  }

  /** Move a chart past the one beside it, among those of its group that can be seen. */
  #step(key, step) {
    const { root } = this.#charts.get(key).chart;
    const seen = [...root.parentElement.children].filter((other) => !other.hidden);
    const beside = seen[seen.indexOf(root) + step];
    const [id] = [...this.#shown].find(([, keys]) => keys.includes(key));
    if (beside) this.#move(id, key, beside.dataset.key);
  }

  /** Return the element of a chart. A chart that is not made yet, or that has another line now, is made. */
  #rootOf({ key, axis, names }) {
    const known = this.#charts.get(key);
    if (known && String(known.names) === String(names)) {
      known.buttons.show();
      known.chart.root.classList.toggle("chart-hidden", this.#preferences.isHidden(key));
      return known.chart.root;
    }
    const buttons = cardButtons(key, this.#preferences, this.#layOut);
    const more = known?.more ?? addedSeries(key, this.#preferences, this.#overSteps, this.#layOut);
    const zoom = this.#zooms[axis];
    const chart = new Chart({
      title: key,
      axis,
      group: zoom,
      view: this.#view,
      place: `${this.#page.name} #${this.#page.run}`,
      marks: this.marksOver(axis, names),
      onSeen: () => {
        zoom.refine();
        this.#onSeen();
      },
      lines: this.#lines.ofChart(names, axis, more.remove),
      buttons: [moveHandle(key, (step) => this.#step(key, step)), buttons.star, ...(axis === "step" ? [more.root] : [])],
      menuItems: [buttons.hide],
    });
    chart.root.dataset.key = key;
    if (this.#own.has(key)) chart.setOwn(this.#own.get(key));
    this.#near.add(chart);
    if (known) {
      if (!this.#own.has(key)) chart.setOwn(known.chart.own);
      this.#near.remove(known.chart);
      zoom.leave(known.chart);
      known.chart.root.replaceWith(chart.root);
    }
    this.#own.delete(key);
    this.#charts.set(key, { chart, buttons, more, names });
    return chart.root;
  }

  /** Return the names of the lines that can be added to charts over steps. */
  #overSteps = () => {
    const series = [...this.#state.series.values()].filter(({ axis }) => axis === "step");
    return [...series.map(({ name }) => name), ...this.#perEpoch];
  };

  #showEmptiness(charts, findsNothing) {
    const { step, time } = this.#sections;
    for (const skeleton of step.querySelectorAll("[data-skeleton]")) skeleton.remove();
    const has = (axis) => charts.some((chart) => chart.axis === axis);
    step.querySelector(":scope > [data-testid=no-chart-found]")?.remove();
    showNote(step, !has("step"), "chart", gettext("No metrics yet"), noMetricsText(this.#state, this.#page.start));
    showNote(
      time,
      !has("time"),
      "chip",
      gettext("No machine samples yet"),
      gettext("GPU and host are sampled once per second while the run trains."),
    );
    if (findsNothing) step.append(this.#finder.emptyNote());
  }
}

function showNote(place, wanted, picture, title, text) {
  let note = place.querySelector(":scope > .blank");
  if (!wanted) {
    note?.remove();
    return;
  }
  if (note) {
    setText(note.querySelector("p"), text);
    return;
  }
  const svg = icon(picture, "blank-icon");
  note = element("div", { class: "card blank" }, svg, element("h2", { text: title }), element("p", { text }));
  place.append(note);
}
