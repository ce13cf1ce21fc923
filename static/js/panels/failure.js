// Why a run failed, in one place: the traceback, the last lines of its console, and the way to the error among them.

import { setText } from "../shared/dom.js";
import { changeDetector } from "../shared/painter.js";
import { piecesOf } from "./terminal/ansi.js";

const LAST_LINES = 20;
const TRACEBACK = "Traceback (most recent call last)";
const ERRORS = new Set(["error", "critical"]);

/** Return the index of the line at which the last error of a console begins, -1 if there is none. */
export function errorLine(lines) {
  // Most lines are no traceback: only the others are worth the search for colours.
  const traceback = lines.findLastIndex((line) => line.text.includes("Traceback") && plain(line).startsWith(TRACEBACK));
  return traceback >= 0 ? traceback : lines.findLastIndex(({ level }) => ERRORS.has(level));
}

/** Return the texts of the lines that were printed last, without colours. */
export function lastLines(lines) {
  return lines.filter(({ source }) => source !== "skipped").slice(-LAST_LINES).map(plain);
}

function plain({ text }) {
  return piecesOf(text).map((piece) => piece.text).join("");
}

export class Failure {
  #state;
  #root = document.getElementById("failure");
  #changed = changeDetector();

  /** `output` is the panel of the console: its `show(index)` scrolls to a line. */
  constructor(state, output) {
    this.#state = state;
    this.#slot("jump").addEventListener("click", () => output.show(errorLine(state.console)));
  }

  paint() {
    const { run, attempts, console: lines, versions } = this.#state;
    if (!run || !this.#changed(run.state, versions.attempts, versions.details, versions.console)) return;
    this.#root.hidden = run.state !== "failed";
    if (this.#root.hidden) return;
    const traceback = attempts.at(-1)?.traceback ?? "";
    const printed = lastLines(lines);
    this.#fill("traceback", traceback);
    this.#fill("lines", printed.join("\n"));
    this.#slot("jump").hidden = errorLine(lines) < 0;
  }

  /** The end says most: it is what is seen. */
  #fill(name, text) {
    const place = this.#slot(name);
    place.parentElement.hidden = !text;
    setText(place, text);
    place.scrollTop = place.scrollHeight;
  }

  #slot(name) {
    return this.#root.querySelector(`[data-slot="${name}"]`);
  }
}
