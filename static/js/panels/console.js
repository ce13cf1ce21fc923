// The worker's output: follows the end until a reader scrolls away.

import { element, setText } from "../shared/dom.js";
import { bytes, clock } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";

// Escape sequences that colour or move (CSI), set titles (OSC), and single ones.
const ANSI = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\-_])/g;
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f]/g;
const NEAR_END_PX = 24;

export class ConsolePanel {
  #state;
  #root = document.getElementById("console");
  #lines = this.#root.querySelector("[data-slot=lines]");
  #printed = this.#root.querySelector("[data-slot=printed]");
  #unfinished = this.#root.querySelector("[data-slot=unfinished]");
  #count = this.#root.querySelector("[data-slot=count]");
  #button = this.#root.querySelector("[data-slot=follow]");
  #following = true;
  #shown = 0;
  #first = null;
  #changed = changeDetector();
  #unfinishedChanged = changeDetector();

  constructor(state) {
    this.#state = state;
    this.#button.addEventListener("click", () => this.toggle());
    // Only a reader's own hand pauses: scrolling that follows new lines must not.
    for (const kind of ["wheel", "touchmove", "keydown", "pointerup"])
      this.#lines.addEventListener(kind, () => setTimeout(() => this.#look(), 60), { passive: true });
  }

  toggle() {
    this.#follow(!this.#following);
  }

  paint() {
    const { versions, console: lines, unfinished } = this.#state;
    if (this.#changed(versions.console) && lines.length) this.#paintPrinted(versions, lines);
    else if (!this.#unfinishedChanged(versions.unfinished)) return;
    this.#unfinished.replaceChildren(...unfinished.map((text) => lineOf({ text, source: "console", level: "info" })));
    if (unfinished.length && !lines.length) this.#printed.replaceChildren();
    if (this.#following) this.#lines.scrollTop = this.#lines.scrollHeight;
  }

  #paintPrinted(versions, lines) {
    // A history that was loaded anew begins with other lines: then all of them are drawn again.
    const fresh = versions.console - this.#shown;
    if (!this.#first || fresh < 0 || fresh > lines.length || !this.#isContinued(lines, fresh)) {
      this.#printed.replaceChildren(...lines.map(lineOf));
    } else {
      this.#printed.append(...(fresh ? lines.slice(-fresh).map(lineOf) : []));
      while (this.#printed.childElementCount > lines.length) this.#printed.firstElementChild.remove();
    }
    this.#shown = versions.console;
    this.#first = lines.at(-1);
    const skippedBytes = lines.reduce((sum, { skipped = 0 }) => sum + skipped, 0);
    setText(this.#count, skippedBytes ? fill(gettext("{size} skipped"), { size: bytes(skippedBytes) }) : "");
  }

  #isContinued(lines, fresh) {
    return lines.at(-1 - fresh) === this.#first;
  }

  #look() {
    const rest = this.#lines.scrollHeight - this.#lines.scrollTop - this.#lines.clientHeight;
    const atEnd = rest < NEAR_END_PX;
    if (atEnd !== this.#following) this.#follow(atEnd);
  }

  #follow(on) {
    this.#following = on;
    this.#button.setAttribute("aria-pressed", String(on));
    setText(this.#button, on ? gettext("Following") : gettext("Paused: follow again"));
    if (on) this.#lines.scrollTop = this.#lines.scrollHeight;
  }
}

function lineOf(line) {
  const text =
    line.source === "skipped"
      ? fill(gettext("… {size} of output were skipped"), { size: bytes(line.skipped) })
      : line.text.replace(ANSI, "").replace(CONTROL, "");
  return element("div", {
    class: `line line-${line.source} level-${line.level}`,
    title: line.at ? clock(line.at) : null,
    text: text || " ",
  });
}
