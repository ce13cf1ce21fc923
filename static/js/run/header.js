// The head of the run page: state, connection, heartbeats, progress, document title.

import { reasonText } from "../shared/alert_texts.js";
import { element, icon, partsOf, setContent, setText } from "../shared/dom.js";
import { age, duration, fixed, measure, number, stepTime } from "../shared/format.js";
import { fill, gettext, stateText } from "../shared/i18n.js";
import { momentElement } from "../shared/moments.js";
import { changeDetector } from "../shared/painter.js";
import { openAlerts } from "../state/alerts.js";
import { currentEpoch, secondsLeft, shareDone, stepRate } from "../state/progress.js";
import { linkSentence, linkText } from "./link_text.js";

const LOSSES = ["train/loss", "loss"];
const OLD_POINT_S = 60;
// Each change of the title costs a message to another process of the browser.
const TITLE_MS = 1000;

export class Header {
  #state;
  #page;
  #announcer;
  #parts = {};
  #slots = {};
  #connection = { link: "connecting", sentence: "" };
  #clockOffsetS = 0;
  #titledAt = -Infinity;
  // When this page last received the time without heartbeats.
  #quietAt = 0;
  #lifeChanged = changeDetector();
  #runChanged = changeDetector();
  #linkChanged = changeDetector();

  constructor(state, page, announcer) {
    this.#state = state;
    this.#page = page;
    this.#announcer = announcer;
    for (const id of ["run", "state", "link", "evidence", "silent", "stalled", "not-looking", "ranks", "paused", "trouble", "banner", "progress"])
      this.#parts[id] = document.getElementById(id);
    for (const slot of this.#parts.progress.querySelectorAll("[data-slot]")) this.#slots[slot.dataset.slot] = slot;
  }

  /** Set the server's clock, which determines how old a point is, because this machine's clock may be wrong. */
  setClock(serverTime) {
    this.#clockOffsetS = serverTime - Date.now() / 1000;
  }

  setConnection(link, sentence = "") {
    this.#connection = { link, sentence };
  }

  /** Update everything that changes with time only. */
  tick() {
    const { run } = this.#state;
    if (!run) return;
    const now = Date.now() / 1000 + this.#clockOffsetS;
    const live = run.group === "live";
    const point = live && run.last_point_at ? Math.max(0, now - seconds(run.last_point_at)) : null;
    setText(this.#parts.evidence, point === null ? "" : fill(gettext("last point {age}"), { age: age(point) }));
    this.#parts.evidence.classList.toggle(
      "evidence-old",
      point !== null && point > OLD_POINT_S && run.state === "running",
    );
    this.#tickEvidence(run, live, now);
    const present = run.training_since ? Math.max(0, now - seconds(run.training_since)) : 0;
    setText(this.#slots.elapsed, run.started_at ? duration(Math.round(run.trained_s + present)) : "–");
  }

  /** Show evidence against the state: no heartbeats (the host), or heartbeats without steps (the training). */
  #tickEvidence(run, live, now) {
    const { life, silentS } = this.#state;
    if (this.#lifeChanged(life, silentS)) this.#quietAt = performance.now();
    const { silent, stalled } = this.#parts;
    const isQuiet = live && life !== "alive";
    silent.hidden = !isQuiet;
    silent.dataset.life = life;
    if (isQuiet) {
      const text =
        life === "unreachable" ? gettext("unreachable: no heartbeat for {time}") : gettext("no heartbeat for {time}");
      const quietS = silentS + (performance.now() - this.#quietAt) / 1000;
      const sentence = fill(text, { time: duration(Math.round(quietS)) });
      setText(silent.querySelector("[data-slot=text]"), sentence);
      silent.title = sentence;
    }
    this.#tickLooks(run, live, now);
    // Without heartbeats it is unknown whether it steps.
    const isStalled = live && !isQuiet && Boolean(run.stalled_since);
    stalled.hidden = !isStalled;
    if (!isStalled) return;
    const since = duration(Math.max(0, Math.round(now - Date.parse(run.stalled_since) / 1000)));
    setText(stalled.querySelector("[data-slot=text]"), fill(gettext("stalled: no step for {time}"), { time: since }));
    const usual = run.usual_step_s
      ? fill(gettext("a step usually takes {time}"), { time: stepTime(run.usual_step_s) })
      : "";
    stalled.title = [gettext("The training process is running, but completes no steps."), usual].filter(Boolean).join(" ");
  }

  /** Show that a training never reads `run.stopping`: it has the command, but does not react. */
  #tickLooks(run, live, now) {
    const part = this.#parts["not-looking"];
    const since = live && run.not_looking_since;
    part.hidden = !since;
    if (!since) return;
    const time = duration(Math.max(0, Math.round(now - seconds(since))));
    const text = gettext("has not read run.stopping for {time}, so commands wait");
    setText(part.querySelector("[data-slot=text]"), fill(text, { time }));
    part.title = gettext("Its script reads run.stopping rarely or never. Use End the process to end it anyway.");
  }

  paint() {
    this.#paintLink();
    const { run, life, versions } = this.#state;
    if (!run || !this.#runChanged(versions.run, life, versions.series, versions.commands)) return;
    this.#announcer.look(run);
    this.#paintState();
    this.#paintProgress();
  }

  #paintState() {
    const { run } = this.#state;
    const badge = this.#parts.state;
    if (badge.dataset.state !== run.state) {
      badge.dataset.state = run.state;
      badge.className = `state state-${run.state}`;
      badge.replaceChildren(icon(run.state), element("span", { text: stateText(run.state) }));
    }
    this.#parts.ranks.hidden = !(run.ranks > 1);
    setText(this.#parts.ranks, fill(gettext("{count} ranks"), { count: run.ranks }));
    this.#paintPaused(run);
    this.#paintBanner(run);
  }

  #paintPaused(run) {
    const { paused } = this.#parts;
    paused.hidden = run.state !== "paused";
    if (paused.hidden) return;
    const pauses = [...this.#state.commands.values()].filter(
      (one) => one.command === "pause" && one.state === "applied",
    );
    const last = pauses.reduce((newest, one) => (newest && newest.applied_at > one.applied_at ? newest : one), null);
    const by =
      last && last.step === run.step
        ? [" ", ...partsOf(gettext("by {author} at {time}"), { author: last.author, time: momentElement(last.applied_at) })]
        : [];
    const text = fill(gettext("Paused after step {x}"), { x: run.step });
    setContent(paused.querySelector("[data-slot=text]"), text, ...by);
  }

  /** Update the title of the tab, also while the tab is hidden. */
  title() {
    const { run } = this.#state;
    if (!run || performance.now() - this.#titledAt < TITLE_MS) return;
    this.#titledAt = performance.now();
    const title = titleOf(this.#state);
    if (document.title !== title) document.title = title;
  }

  #paintBanner(run) {
    const ofLink = this.#connection.sentence || linkSentence(this.#shownLink(), run);
    this.#showTrouble(ofLink || quietSentence(run, this.#state.life), Boolean(ofLink));
    const parts = this.#endParts(run);
    this.#parts.banner.hidden = !parts.length;
    this.#parts.banner.classList.toggle("banner-bad", run.state === "failed");
    setContent(this.#parts.banner.querySelector("[data-slot=text]"), ...parts);
    this.#parts.banner.querySelector("[data-slot=attempts]").hidden = run.state !== "failed";
  }

  #endParts(run) {
    const sentence = endSentence(run, this.#state.attempts.at(-1));
    const ended = [...this.#state.commands.values()].find(
      (one) => one.command === "end_process" && one.state === "applied" && one.attempt === run.attempt,
    );
    if (!sentence || !ended || run.group !== "ended") return sentence ? [sentence] : [];
    const by = { author: ended.author, time: momentElement(ended.applied_at) };
    return [...partsOf(gettext("Ended by {author} at {time}."), by), ` ${sentence}`];
  }

  #paintProgress() {
    const { run } = this.#state;
    const done = shareDone(run);
    const rate = stepRate(this.#state);
    const bar = this.#parts.progress.querySelector("progress");
    bar.className = `bar bar-${run.state}`;
    if (done === null && run.state === "running") bar.removeAttribute("value");
    else bar.value = 100 * (done ?? 0);
    const of = (value, total) => (total ? `${value} / ${total}` : String(value));
    setText(
      this.#slots.epoch,
      run.total_epochs || run.epoch ? of(run.group === "ended" ? run.epoch : currentEpoch(run), run.total_epochs) : "–",
    );
    setText(this.#slots.step, of(run.step, run.total_steps));
    setText(this.#slots.percent, done === null ? "–" : `${fixed(100 * done, done < 1 ? 1 : 0)} %`);
    setText(
      this.#slots.rate,
      rate ? fill(gettext("{rate} steps/s"), { rate: measure("", Number(rate.toPrecision(3))) }) : "–",
    );
    const left = secondsLeft(run, rate);
    setText(this.#slots.left, left === null ? "–" : duration(Math.ceil(left)));
  }

  #shownLink() {
    const { link } = this.#connection;
    return link === "open" ? this.#state.link || "live" : link;
  }

  #paintLink() {
    const { sentence } = this.#connection;
    const shown = this.#shownLink();
    const text = linkText(shown, this.#state.run);
    if (!this.#linkChanged(shown, text, sentence)) return;
    this.#parts.run.dataset.link = shown;
    this.#parts.link.dataset.link = shown;
    setText(this.#parts.link.querySelector("[data-slot=text]"), text);
    if (this.#state.run) this.#paintBanner(this.#state.run);
    else if (sentence) this.#showTrouble(sentence, true);
  }

  /** What comes and goes with the connection stands in a line of its own, which may be too short for it. */
  #showTrouble(sentence, isBad) {
    const { trouble } = this.#parts;
    trouble.hidden = !sentence;
    trouble.title = sentence;
    trouble.classList.toggle("banner-bad", isBad);
    setText(trouble.querySelector("[data-slot=text]"), sentence);
  }
}

/** Return the title of the tab: open alerts, state, progress and loss, then the name of the run. */
export function titleOf({ run, latest, alerts }) {
  const loss = LOSSES.map((name) => latest[name]).find(Boolean);
  const parts = [stateText(run.state), progressText(run)];
  if (loss) parts.push(fill(gettext("loss {value}"), { value: number(loss.value, loss.nonfinite) }));
  const open = openAlerts(alerts);
  const worst = open.filter(({ severity }) => severity === open[0].severity);
  if (worst.length) parts.unshift(`⚠ ${worst.length} ${stateText(worst[0].severity)}`);
  return `${parts.filter(Boolean).join(" · ")} – ${run.name}`;
}

/** Return the progress of a run in short, "" if it is unknown, or told by its state. */
function progressText(run) {
  if (run.state === "finished" || !run.step) return "";
  if (run.total_steps) return `${Math.floor(100 * shareDone(run))} %`;
  if (!run.total_epochs) return "";
  return fill(gettext("epoch {x}"), { x: `${run.group === "ended" ? run.epoch : currentEpoch(run)} / ${run.total_epochs}` });
}

/** Return a sentence about missing heartbeats for the viewer, "" if they arrive. */
function quietSentence(run, life) {
  if (run.group !== "live" || life === "alive") return "";
  return gettext(
    "Its host is disconnected or down. If only the network is down, the training continues, and its points and answers arrive later.",
  );
}

/** Return why a run is not running any longer; a lost run may not have ended. */
function endSentence(run, attempt) {
  if (run.group === "ended" && run.state !== "finished") return reasonText(run) || attempt?.error || "";
  if (run.group !== "lost") return "";
  const heals = gettext(
    "If its host was only disconnected, the run continues automatically when the host is back, with all its points.",
  );
  return [reasonText(run), heals].filter(Boolean).join(" ");
}

/** Return seconds since 1970 of an ISO time. */
function seconds(iso) {
  return Date.parse(iso) / 1000;
}
