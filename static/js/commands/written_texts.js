// Notes and reasons in Markdown, as HTML that the portal makes and cleans. Until it arrives, they are shown as text.

import { getJson } from "../shared/http.js";

// The portal takes this number at once.
const MOST_AT_ONCE = 20;
const RETRY_MS = 30_000;
// All open pages of a run receive a new note at once. They request its HTML spread over this time.
const SPREAD_MS = 1000;
// More than a page shows commands; the HTML of others is requested again if they are shown again.
const MOST_KNOWN = 600;
// A text without any of these is the same in Markdown: marks anywhere, an emphasis that begins with _, addresses,
// character references, and lines that begin a heading, a quote, a list, a table, code or a horizontal line.
const SIGNS = /[*`[\\]|~~|\|.*\n|(?<![\p{L}\p{N}])_|\/\/|mailto:|<\w|&[\w#]+;|^\s*([#>+=:|-]|\d+[.)](\s|$))|^( {4}|\t)/imu;
const NO_HTML = { note: "", reason: "" };

/** Return the text of a note, "" for another command. */
function noteOf({ command, arguments: given }) {
  return command === "note" ? (given?.text ?? "") : "";
}

/** Return whether a text may look different in Markdown. */
export function mayBeMarkdown(text) {
  return SIGNS.test(text);
}

export class WrittenTexts {
  #address;
  #login;
  #onChange;
  #get;
  // By command id: {note, reason}, each HTML or "".
  #known = new Map();
  #version = 0;
  #isAsking = false;
  #askAt = -Infinity;
  #hasAsked = false;
  #isDue = false;
  #wait;

  /**
   * `onChange()` is called when HTML has arrived, or can be requested. `wait()` returns how many ms a request after the
   * first one waits.
   */
  constructor({ written, login }, onChange, get = getJson, wait = () => SPREAD_MS * Math.random()) {
    this.#wait = wait;
    this.#address = written;
    this.#login = login;
    this.#onChange = onChange;
    this.#get = get;
  }

  /** Return the HTML of the texts of a command, "" for each that is shown as text. */
  of(command) {
    return this.#known.get(command.id) ?? NO_HTML;
  }

  /** Request the HTML that `commands` lack; return a number that grows with every change. */
  update(commands) {
    if (this.#isAsking || performance.now() < this.#askAt) return this.#version;
    const wanted = [];
    for (const command of commands) {
      if (wanted.length === MOST_AT_ONCE) break;
      // The portal does not have it yet.
      if (this.#known.has(command.id) || command.state === "sending") continue;
      const reason = command.cause ? "" : (command.reason ?? "");
      if (mayBeMarkdown(noteOf(command)) || mayBeMarkdown(reason)) wanted.push(command.id);
      else this.#known.set(command.id, NO_HTML);
    }
    this.#forget(commands);
    if (wanted.length && !this.#mustWait()) this.#request(wanted);
    return this.#version;
  }

  /** Return whether a request must wait. The first one does not, because a page that is loaded is alone. */
  #mustWait() {
    if (!this.#hasAsked || this.#isDue) return false;
    this.#isDue = true;
    const wait = Math.ceil(this.#wait());
    if (!wait) return false;
    this.#askAt = performance.now() + wait;
    // A timer may be early by less than a millisecond.
    setTimeout(this.#onChange, wait + 1);
    return true;
  }

  #forget(commands) {
    if (this.#known.size <= MOST_KNOWN) return;
    const shown = new Set(commands.map(({ id }) => id));
    for (const id of this.#known.keys()) if (!shown.has(id)) this.#known.delete(id);
  }

  async #request(ids) {
    this.#isAsking = this.#hasAsked = true;
    this.#isDue = false;
    try {
      const query = ids.map((id) => `command=${encodeURIComponent(id)}`).join("&");
      const { items } = await this.#get(`${this.#address}?${query}`, this.#login);
      // The portal has no row for a command that it refused.
      for (const id of ids) this.#known.set(id, NO_HTML);
      for (const { id, note, reason } of items) this.#known.set(id, { note, reason });
      this.#version += 1;
      this.#onChange();
    } catch (error) {
      this.#askAt = performance.now() + Math.max(RETRY_MS, error.retryAfterMs ?? 0);
    }
    this.#isAsking = false;
  }
}
