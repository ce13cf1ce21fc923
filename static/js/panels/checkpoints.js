// The checkpoints: their content and place, a download, and the commands that continue from one.

import { copyText } from "../shared/clipboard.js";
import { element, icon, toast } from "../shared/dom.js";
import { bytes, measure, readableName } from "../shared/format.js";
import { postJson } from "../shared/http.js";
import { fill, gettext } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";
import { timeElement } from "./row.js";

const MOST_METRICS = 4;

export class Checkpoints {
  #state;
  #page;
  #place = document.getElementById("checkpoints");
  #changed = changeDetector();
  // By the ID of a checkpoint, the command that its row shows.
  #shown = new Map();

  constructor(state, page) {
    this.#state = state;
    this.#page = page;
  }

  paint() {
    const { versions, checkpoints, viewer } = this.#state;
    const may = Boolean(viewer?.may.length);
    if (!this.#changed(versions.checkpoints, may) || !checkpoints.length) return;
    const focused = focusedIn(this.#place);
    this.#place.replaceChildren(...checkpoints.map((checkpoint) => this.#row(checkpoint, checkpoints, may)));
    if (focused) this.#place.querySelector(focused)?.focus();
  }

  #row(checkpoint, checkpoints, may) {
    const where = fill(gettext("step {step} · epoch {epoch} · {size}"), {
      step: checkpoint.step,
      epoch: checkpoint.epoch,
      size: bytes(checkpoint.size_bytes),
    });
    const row = element(
      "div",
      { class: "entry checkpoint", "data-testid": "checkpoint-row", "data-name": checkpoint.name, "data-checkpoint": checkpoint.id },
      element("span", { class: "entry-icon" }, icon(checkpoint.reason === "best" && isNewestOfKind(checkpoint, checkpoints) ? "star" : "save")),
      element(
        "div",
        { class: "entry-text" },
        element(
          "div",
          { class: "entry-title" },
          element("span", { text: checkpoint.name }),
          element("span", { class: "chip", text: kindText(checkpoint, checkpoints) }),
          checkpoint.good ? goodChip() : null,
          checkpoint.keep ? element("span", { class: "chip", "data-testid": "kept", text: gettext("kept") }) : null,
        ),
        element("div", { class: "entry-detail", text: where }),
        element("div", {
          class: "entry-detail",
          "data-testid": "checkpoint-place",
          text: placeText(checkpoint, checkpoints),
        }),
        element("div", { class: "entry-detail", text: metricsText(checkpoint.metrics) }),
        element("div", {
          class: "entry-detail checkpoint-sum",
          title: checkpoint.sha256,
          text: `sha256 ${checkpoint.sha256.slice(0, 12)}…`,
        }),
      ),
      timeElement(checkpoint.created_at),
    );
    if (may && this.#page.addresses.checkpoints)
      row.querySelector(".entry-text").append(this.#tools(checkpoint, checkpoints));
    return row;
  }

  #tools(checkpoint, checkpoints) {
    const name = checkpoint.name;
    const address = `${this.#page.addresses.checkpoints}${checkpoint.id}/`;
    const load = element(
      "a",
      {
        class: "btn btn-sm",
        href: address,
        "data-testid": "download",
        "aria-label": fill(gettext("Download {name}"), { name }),
      },
      icon("download"),
      gettext("Download"),
    );
    // No command resumes a run of another host from a checkpoint: its own command begins another run there.
    const again = this.#page.remote;
    const resume = element(
      "button",
      {
        class: "btn btn-sm",
        type: "button",
        "data-testid": "resume-from",
        "aria-label": again
          ? gettext("Copy command to start again: the one that started this run on its host")
          : fill(gettext("Copy command to resume from {name}"), { name }),
        title: again ? gettext("If you run this command on the host of the run, the training starts again as another run.") : "",
      },
      icon("copy"),
      again ? gettext("Copy command to start again") : gettext("Copy command to resume"),
    );
    const line = element("code", {
      class: "checkpoint-command",
      text: this.#shown.get(checkpoint.id) ?? "",
      hidden: !this.#shown.has(checkpoint.id),
      "data-testid": "resume-command",
    });
    const show = (command) => {
      this.#shown.set(checkpoint.id, command);
      line.textContent = command;
      line.hidden = false;
      copyText(line);
    };
    resume.addEventListener("click", () =>
      show(again || `python manage.py train --run-id ${this.#page.run} --from ${checkpoint.id}`),
    );
    const elsewhere = this.#page.elsewhere.length ? this.#elsewhere(checkpoint, checkpoints, show) : null;
    const branch = element(
      "a",
      {
        class: "btn btn-sm",
        href: `${address}branch/`,
        // `sheets/branch_sheet.js` opens it as a sheet.
        "data-branch": "",
        "data-testid": "branch",
        "aria-label": fill(gettext("Branch from {name}"), { name }),
      },
      icon("branch"),
      gettext("Branch…"),
    );
    return element("div", { class: "checkpoint-tools" }, load, resume, elsewhere, branch, this.#mark(checkpoint), line);
  }

  /** Return the button for the command that begins another run at the checkpoint on any host. */
  #elsewhere(checkpoint, checkpoints, show) {
    const reason = checkpoint.pushed ? "" : reasonText(checkpoint, checkpoints);
    const { name } = checkpoint;
    const label = fill(gettext("Copy command to start elsewhere: another run from {name} on any host"), { name });
    const button = element(
      "button",
      {
        class: "btn btn-sm",
        type: "button",
        "data-testid": "elsewhere",
        "aria-disabled": String(!checkpoint.pushed),
        "aria-label": reason ? fill(gettext("{title}: {reason}"), { title: label, reason }) : label,
        title: reason,
      },
      icon("copy"),
      gettext("Copy command to start elsewhere"),
    );
    const [before, after] = this.#page.elsewhere;
    button.addEventListener("click", () => {
      // People who cannot hover over a button can read here why it is grey.
      if (reason) toast(reason, "info", "unavailable");
      else show(`${before}${checkpoint.id}${after}`);
    });
    return button;
  }

  /** Return the button that protects a checkpoint from retention rules. The page changes when the event arrives. */
  #mark(checkpoint) {
    const button = element("button", {
      class: "btn btn-sm",
      type: "button",
      "data-testid": "keep",
      "aria-pressed": String(Boolean(checkpoint.keep)),
      "aria-label": fill(gettext("Keep {name} after the run has ended"), { name: checkpoint.name }),
      title: gettext("No rule of the project removes it once the run has ended."),
      text: gettext("Keep"),
    });
    button.addEventListener("click", () => this.#keep(checkpoint, button));
    return button;
  }

  async #keep(checkpoint, button) {
    if (button.ariaDisabled === "true") return;
    // A disabled button would lose the focus.
    button.ariaDisabled = "true";
    try {
      const { marks, login } = this.#page.addresses;
      await postJson(`${marks}${checkpoint.id}/keep/`, { keep: !checkpoint.keep }, login);
    } catch (error) {
      toast(error.message, "danger");
    } finally {
      button.ariaDisabled = null;
    }
  }
}

/** Return the selector of the button that has the focus, null if none has, because painting replaces the rows. */
function focusedIn(place) {
  const button = place.contains(document.activeElement) ? document.activeElement.closest("[data-testid]") : null;
  const row = button?.closest("[data-checkpoint]");
  return row ? `[data-checkpoint="${row.dataset.checkpoint}"] [data-testid="${button.dataset.testid}"]` : null;
}

/** Return the host that saved a checkpoint, "" if it is unknown. All checkpoints of an attempt have the same host. */
function hostOf(checkpoint, checkpoints) {
  return checkpoints.find(({ attempt, host }) => attempt === checkpoint.attempt && host)?.host ?? "";
}

/** Return where the files of a checkpoint are, "" if that is unknown. */
export function placeText(checkpoint, checkpoints) {
  const host = checkpoint.on_host ? hostOf(checkpoint, checkpoints) : "";
  if (checkpoint.pushed && !host) return gettext("in the portal");
  if (checkpoint.pushed) return fill(gettext("on {host}, also in the portal"), { host });
  return host ? fill(gettext("on {host}"), { host }) : "";
}

function reasonText(checkpoint, checkpoints) {
  const host = hostOf(checkpoint, checkpoints);
  return host
    ? fill(gettext("The portal has no copy. If run.save_checkpoint() saved it, send it from {host} with steersman push."), { host })
    : gettext("The portal has no copy. If run.save_checkpoint() saved it, send it from its host with steersman push.");
}

function metricsText(metrics) {
  const known = Object.entries(metrics ?? {}).slice(0, MOST_METRICS);
  return known
    .map(([name, value]) => `${readableName(name)} ${measure(name, value, value === null ? "nan" : "")}`)
    .join(" · ");
}

/** Return whether this is the newest checkpoint with its reason; `checkpoints` begin with it. */
function isNewestOfKind(checkpoint, checkpoints) {
  return checkpoints.find(({ reason }) => reason === checkpoint.reason)?.id === checkpoint.id;
}

/** Return why a checkpoint was saved; only the newest with a reason is called *newest* or *best*. */
export function kindText(checkpoint, checkpoints) {
  const { reason } = checkpoint;
  const isNewest = isNewestOfKind(checkpoint, checkpoints);
  const texts = {
    last: isNewest ? gettext("newest") : gettext("earlier"),
    best: isNewest ? gettext("best") : gettext("best until then"),
    hourly: gettext("hourly"),
    named: gettext("named"),
    stop: gettext("at a stop"),
  };
  return texts[reason] ?? reason ?? "";
}

function goodChip() {
  const title = gettext("The detectors raised no alert in the 100 steps after it: a rule may roll back to it.");
  return element("span", { class: "chip", "data-testid": "good", title, text: gettext("good") });
}
