// Notes and reasons in Markdown, as HTML that the portal makes and cleans. Until it arrives, they are shown as text.

import { getJson } from "../shared/http.js";

// The portal takes this number at once.
const MOST_AT_ONCE = 20;
const RETRY_MS = 30_000;
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

  /** `onChange()` is called when HTML has arrived. */
  constructor({ written, login }, onChange, get = getJson) {
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
    if (wanted.length) this.#request(wanted);
    return this.#version;
  }

  async #request(ids) {
    this.#isAsking = true;
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
