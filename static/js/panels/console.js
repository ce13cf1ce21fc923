// The output of the worker: it follows the end until a reader scrolls up, has filters for lines, and leads to the error.

import { element, setHidden, setText } from "../shared/dom.js";
import { bytes, moment } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";
import { errorLine } from "./failure.js";
import { piecesOf } from "./terminal/ansi.js";
import { coloursOf } from "./terminal/colours.js";
import { StoredSearch } from "./terminal/stored_search.js";

const NEAR_END_PX = 24;
// The lines of each choice of the menu.
const WANTED = {
  "": ".line",
  problems: ".level-warning, .level-error, .level-critical",
  errors: ".level-error, .level-critical",
  steersman: ".line-steersman",
};

export class ConsolePanel {
  #state;
  #announcer;
  #root = document.getElementById("console");
  #lines = this.#root.querySelector("[data-slot=lines]");
  #printed = this.#root.querySelector("[data-slot=printed]");
  #unfinished = this.#root.querySelector("[data-slot=unfinished]");
  #count = this.#root.querySelector("[data-slot=count]");
  #button = this.#root.querySelector("[data-slot=follow]");
  #search = this.#root.querySelector("[data-slot=search]");
  #jump = this.#root.querySelector("[data-slot=jump]");
  #level = this.#root.querySelector("[data-slot=level]");
  #hits = this.#root.querySelector("[data-slot=hits]");
  #stored;
  #following = true;
  #shown = 0;
  #first = null;
  #changed = changeDetector();
  #unfinishedChanged = changeDetector();

  /** `announcer` tells screen readers how many lines a person has found. */
  constructor(state, announcer) {
    this.#state = state;
    this.#announcer = announcer;
    this.#button.addEventListener("click", () => this.toggle());
    this.#jump.addEventListener("click", () => this.show(errorLine(state.console)));
    for (const field of [this.#search, this.#level])
      field.addEventListener("input", () => {
        this.#stored.leave();
        this.#sift();
        this.#announcer.say(this.#hits.textContent);
      });
    this.#stored = new StoredSearch(this.#root, { search: this.#search, level: this.#level }, (text) => this.#tell(text));
    // Only input of the reader pauses: scrolling that follows new lines must not.
    for (const kind of ["wheel", "touchmove", "keydown", "pointerup"])
      this.#lines.addEventListener(kind, () => setTimeout(() => this.#look(), 60), { passive: true });
  }

  toggle() {
    this.#follow(!this.#following);
  }

  /** Scroll to a line of the state, by its index, and mark it for a moment; filters are taken away. */
  show(index) {
    this.paint();
    this.#search.value = this.#level.value = "";
    this.#stored.leave();
    this.#sift();
    this.#announcer.say("");
    const line = this.#printed.children[index];
    if (!line) return;
    this.#follow(false);
    this.#root.scrollIntoView({ block: "start" });
    this.#lines.scrollTop = line.offsetTop - this.#lines.offsetTop - this.#lines.clientHeight / 3;
    for (const other of this.#printed.querySelectorAll(".line-shown")) other.classList.remove("line-shown");
    line.classList.add("line-shown");
    this.#lines.focus({ preventScroll: true });
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
    // A reloaded history begins with other lines, so all of them are rendered again.
    const fresh = versions.console - this.#shown;
    if (!this.#first || fresh < 0 || fresh > lines.length || !this.#isContinued(lines, fresh)) {
      this.#printed.replaceChildren(...lines.map(lineOf));
    } else {
      this.#printed.append(...(fresh ? lines.slice(-fresh).map(lineOf) : []));
      while (this.#printed.childElementCount > lines.length) this.#printed.firstElementChild.remove();
    }
    if ((this.#search.value || this.#level.value) && !this.#stored.isShown) this.#sift();
    this.#shown = versions.console;
    this.#first = lines.at(-1);
    setHidden(this.#jump, errorLine(lines) < 0);
    const skippedBytes = lines.reduce((sum, { skipped = 0 }) => sum + skipped, 0);
    setText(this.#count, skippedBytes ? fill(gettext("{size} skipped"), { size: bytes(skippedBytes) }) : "");
  }

  /** Hide the lines that do not match the filters. */
  #sift() {
    const part = this.#search.value.trim().toLowerCase();
    const isWanted = (line) => line.matches(WANTED[this.#level.value]) && line.textContent.toLowerCase().includes(part);
    const lines = [...this.#printed.querySelectorAll(".line")];
    for (const line of lines) line.hidden = !isWanted(line);
    const found = lines.filter((line) => !line.hidden).length;
    const isOn = part || this.#level.value;
    setText(this.#hits, isOn ? fill(gettext("{found} of {total} lines"), { found, total: lines.length }) : "");
  }

  /** Show a sentence of the search in the whole output; "" shows how many of the newest lines match. */
  #tell(text) {
    if (text) setText(this.#hits, text);
    else this.#sift();
    this.#announcer.say(this.#hits.textContent);
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
  const skipped = line.source === "skipped";
  const pieces = skipped
    ? [{ text: fill(gettext("… {size} of output were skipped"), { size: bytes(line.skipped) }) }]
    : piecesOf(line.text);
  const attributes = { class: `line line-${line.source} level-${line.level}`, title: line.at ? moment(line.at) : null };
  return element("div", attributes, ...(pieces.length ? pieces.map(pieceOf) : [" "]));
}

function pieceOf(piece) {
  const { text, isBold, isUnderlined } = piece;
  const { name, colour, ground } = coloursOf(piece);
  if (!name && !colour && !ground && !isBold && !isUnderlined) return text;
  const looks = [name && `ansi-${name}`, isBold && "ansi-bold", isUnderlined && "ansi-underlined"].filter(Boolean);
  const span = element("span", { class: looks.join(" "), text });
  // The content policy allows no attribute `style`.
  if (colour) span.style.color = colour;
  if (ground) span.style.backgroundColor = ground;
  return span;
}
