// The head of the run page: state, connection, evidence of life, progress, document title.

import { element, icon, setText } from "./dom.js";
import { age, duration, fixed, measure, number } from "./format.js";
import { changes } from "./paint.js";
import { doneOf, epochOf, leftOf, rateOf } from "./pace.js";
import { hasEnded } from "./state.js";
import { fill, gettext, stateText } from "./text.js";

const LOSSES = ["train/loss", "loss"];
const LIVE = new Set(["running", "paused"]);
const OLD_POINT_S = 60;
// Another process of the browser shows the title: each change costs a message.
const TITLE_MS = 1000;

export class Header {
  #state;
  #page;
  #parts = {};
  #slots = {};
  #connection = { link: "connecting", sentence: "" };
  #clockOffsetS = 0;
  #titledAt = -Infinity;
  #runChanged = changes();
  #linkChanged = changes();

  constructor(state, page) {
    this.#state = state;
    this.#page = page;
    for (const id of ["run", "state", "link", "evidence", "silent", "banner", "progress"])
      this.#parts[id] = document.getElementById(id);
    for (const slot of this.#parts.progress.querySelectorAll("[data-slot]")) this.#slots[slot.dataset.slot] = slot;
  }

  /** The server's clock decides how old a point is: this machine's may be wrong. */
  setClock(serverTime) {
    this.#clockOffsetS = serverTime - Date.now() / 1000;
  }

  setConnection(link, sentence = "") {
    this.#connection = { link, sentence };
  }

  /** What changes with time alone. */
  tick() {
    const { run, lastPointAt } = this.#state;
    if (!run) return;
    const now = Date.now() / 1000 + this.#clockOffsetS;
    const live = LIVE.has(run.state);
    const point = live && lastPointAt ? Math.max(0, now - lastPointAt) : null;
    setText(this.#parts.evidence, point === null ? "" : fill(gettext("last point {age}"), { age: age(point) }));
    this.#parts.evidence.classList.toggle("evidence-old", point !== null && point > OLD_POINT_S);
    const began = run.started_at ? Date.parse(run.started_at) / 1000 : null;
    const ended = run.ended_at ? Date.parse(run.ended_at) / 1000 : now;
    setText(this.#slots.elapsed, began === null ? "–" : duration(Math.max(0, Math.round(ended - began))));
  }

  paint() {
    this.#paintLink();
    if (!this.#state.run || !this.#runChanged(this.#state.versions.run, this.#state.life, this.#state.versions.series))
      return;
    this.#paintState();
    this.#paintProgress();
  }

  #paintState() {
    const { run, life } = this.#state;
    const badge = this.#parts.state;
    if (badge.dataset.state !== run.state) {
      badge.dataset.state = run.state;
      badge.className = `state state-${run.state}`;
      badge.replaceChildren(icon(run.state), element("span", { text: stateText(run.state) }));
    }
    const quiet = LIVE.has(run.state) && life !== "alive";
    this.#parts.silent.hidden = !quiet;
    this.#parts.silent.dataset.life = life;
    const text = life === "unreachable" ? gettext("unreachable") : gettext("no sign of life");
    setText(this.#parts.silent.querySelector("[data-slot=text]"), text);
    this.#paintBanner(run);
  }

  /** State and loss, for the tab and the list of windows; also while the tab is hidden. */
  title() {
    const { run } = this.#state;
    if (!run || performance.now() - this.#titledAt < TITLE_MS) return;
    this.#titledAt = performance.now();
    const loss = LOSSES.map((name) => this.#state.latest[name]).find(Boolean);
    const parts = [stateText(run.state)];
    if (loss) parts.push(fill(gettext("loss {value}"), { value: number(loss.value, loss.nonfinite) }));
    const title = `${parts.join(" · ")} – ${run.name}`;
    if (document.title !== title) document.title = title;
  }

  #paintBanner(run) {
    const sentence =
      this.#connection.sentence || (hasEnded(run) && run.state !== "finished" ? run.end?.error || run.reason : "");
    this.#parts.banner.hidden = !sentence;
    this.#parts.banner.classList.toggle("banner-bad", Boolean(this.#connection.sentence) || run.state === "failed");
    setText(this.#parts.banner, sentence);
  }

  #paintProgress() {
    const { run } = this.#state;
    const done = doneOf(run);
    const rate = rateOf(this.#state);
    const bar = this.#parts.progress.querySelector("progress");
    bar.className = `bar bar-large bar-${run.state}`;
    if (done === null && run.state === "running") bar.removeAttribute("value");
    else bar.value = 100 * (done ?? 0);
    const of = (value, total) => (total ? `${value} / ${total}` : String(value));
    setText(
      this.#slots.epoch,
      run.total_epochs || run.epoch ? of(hasEnded(run) ? run.epoch : epochOf(run), run.total_epochs) : "–",
    );
    setText(this.#slots.step, of(run.step, run.total_steps));
    setText(this.#slots.percent, done === null ? "–" : `${fixed(100 * done, done < 1 ? 1 : 0)} %`);
    setText(
      this.#slots.rate,
      rate ? fill(gettext("{rate} steps/s"), { rate: measure("", Number(rate.toPrecision(3))) }) : "–",
    );
    const left = leftOf(run, rate);
    setText(this.#slots.left, left === null ? "–" : duration(Math.ceil(left)));
  }

  #paintLink() {
    const { link, sentence } = this.#connection;
    const shown = link === "open" ? this.#state.link || "live" : link;
    if (!this.#linkChanged(shown, sentence)) return;
    const texts = {
      connecting: gettext("connecting"),
      live: gettext("live"),
      degraded: gettext("degraded: up to 2 s late"),
      reconnecting: gettext("reconnecting"),
      offline: gettext("offline"),
    };
    this.#parts.run.dataset.link = shown;
    this.#parts.link.dataset.link = shown;
    setText(this.#parts.link.querySelector("[data-slot=text]"), texts[shown] ?? shown);
    if (this.#state.run) this.#paintBanner(this.#state.run);
    else if (sentence) {
      this.#parts.banner.hidden = false;
      this.#parts.banner.classList.add("banner-bad");
      setText(this.#parts.banner, sentence);
    }
  }
}
