// Finds lines in the whole stored output of a run, of which the page has the newest part only.

import { element, setHidden, setText } from "../../shared/dom.js";
import { count, moment } from "../../shared/format.js";
import { getPart, HttpError } from "../../shared/http.js";
import { fill, gettext } from "../../shared/i18n.js";

export class StoredSearch {
  #button;
  #found;
  #lines;
  #fields;
  #say;
  // Counts requests, so that an answer to an earlier one is ignored.
  #asked = 0;

  /** `fields` is {search, level}; `say(text)` shows a sentence beside them. Does nothing without its button. */
  constructor(root, fields, say) {
    this.#button = root.querySelector("[data-slot=whole]");
    this.#found = root.querySelector("[data-slot=found]");
    this.#lines = root.querySelector("[data-slot=lines]");
    this.#fields = fields;
    this.#say = say;
    if (!this.#button) return;
    this.#button.addEventListener("click", () => (this.isShown ? this.leave() : this.#ask()));
    fields.search.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && this.#part) this.#ask();
    });
    root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.isShown) return;
      // In the field it would also clear the text.
      event.preventDefault();
      this.leave();
    });
    this.look();
  }

  get isShown() {
    return Boolean(this.#found) && !this.#found.hidden;
  }

  get #part() {
    return this.#fields.search.value.trim();
  }

  /** Offer the search while there is a text to find. Call when the fields have changed. */
  look() {
    if (!this.#button) return;
    setHidden(this.#button, !this.#part);
    setText(this.#button, this.isShown ? gettext("Back to the live output") : gettext("Search the whole output"));
  }

  /** Show the live output again. */
  leave() {
    this.#asked += 1;
    if (!this.isShown) return this.look();
    const hadFocus = this.#found.contains(document.activeElement);
    this.#show(false);
    if (hadFocus) this.#fields.search.focus();
    this.#say("");
  }

  #show(isShown) {
    setHidden(this.#found, !isShown);
    setHidden(this.#lines, isShown);
    this.look();
  }

  async #ask() {
    const part = this.#part;
    const asked = (this.#asked += 1);
    const query = new URLSearchParams({ q: part, lines: this.#fields.level.value });
    this.#say(gettext("Searching …"));
    let told;
    let lines = [];
    try {
      const answer = await getPart(`${this.#button.dataset.address}?${query}`);
      if (!answer) return;
      const found = await answer.json();
      if (asked !== this.#asked) return;
      lines = found.lines.map((line) => lineOf(line, part));
      told = toldOf(found, part);
    } catch (error) {
      if (asked !== this.#asked) return;
      // A body that broke off is no error of HTTP.
      told = error instanceof HttpError || error.message ? error.message : String(error);
    }
    this.#found.replaceChildren(...(lines.length ? lines : [element("p", { class: "none", text: told })]));
    this.#show(true);
    this.#found.scrollTop = this.#found.scrollHeight;
    this.#say(told);
  }
}

function toldOf({ total, lines }, part) {
  if (!total) return fill(gettext("No line of the stored output contains “{part}”."), { part });
  if (lines.length === total) return fill(gettext("Lines of the whole output: {total}"), { total: count(total) });
  return fill(gettext("Lines of the whole output: {total}; the newest {shown} are shown"), {
    total: count(total),
    shown: count(lines.length),
  });
}

function lineOf({ at, text, source, level }, part) {
  const attributes = { class: `line line-${source} level-${level}`, title: moment(at) };
  return element("div", attributes, ...markedParts(text, part));
}

/** Return a text with each place where it contains `part`, in any case, in a mark. */
function markedParts(text, part) {
  const lower = text.toLowerCase();
  const wanted = part.toLowerCase();
  // A few letters change their length with their case.
  if (lower.length !== text.length) return [text];
  const nodes = [];
  let end = 0;
  for (let place = lower.indexOf(wanted); place >= 0; place = lower.indexOf(wanted, end)) {
    nodes.push(text.slice(end, place), element("mark", { text: text.slice(place, place + wanted.length) }));
    end = place + wanted.length;
  }
  return [...nodes, text.slice(end)];
}
