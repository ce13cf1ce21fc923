// Sends commands from this page, and tracks all commands of the run, the viewer's own and others'.

import { toast } from "../shared/dom.js";
import { gettext } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";

export class CommandClient {
  #state;
  #socket;
  #onChange;
  // By id: commands sent from here without an event yet, with `state` "sending", or "refused" by the API. `isBusy` are
  // those that wait for the database.
  #sending = new Map();
  #own = new Set();
  #listed = { version: -1, commands: [] };
  #errorChanged = changeDetector();
  #commandsChanged = changeDetector();

  constructor(state, socket, onChange) {
    this.#state = state;
    this.#socket = socket;
    this.#onChange = onChange;
    // Grows with every change of any command.
    this.version = 0;
  }

  may(kind) {
    return Boolean(this.#state.viewer?.may.includes(kind));
  }

  isOwn(id) {
    return this.#own.has(id);
  }

  /** Send a command; `more` may have reason, expect {state, value} and at {step} or {epoch}. Returns its id. */
  send(kind, given = {}, more = {}) {
    const payload = { id: newId(), command: kind, arguments: given, ...more };
    this.#own.add(payload.id);
    this.#sending.set(payload.id, {
      ...payload,
      state: "sending",
      isBusy: this.#onTheWay().some((command) => command.isBusy),
      author: "",
      reason: more.reason ?? "",
      outcome: "",
      at_step: more.at?.step ?? null,
      at_epoch: more.at?.epoch ?? null,
      at_roll_backs: more.at?.roll_backs ?? null,
      expected_value: more.expect?.value ?? null,
      expected_state: more.expect?.state ?? "",
      sent_at: new Date().toISOString(),
    });
    this.version += 1;
    this.#socket.command(payload);
    this.#onChange();
    return payload.id;
  }

  /** Cancel a command. One that waits for the database is only forgotten; if it was stored, it appears all the same. */
  cancel(shown) {
    // It may have been stored since its button was made.
    const { id, state } = this.get(shown.id) ?? shown;
    if (state !== "sending") {
      this.send("cancel", { command: id });
      return;
    }
    this.#sending.delete(id);
    this.#socket.settle(id);
    this.version += 1;
    this.#onChange();
  }

  /** Return all commands, oldest first, pending ones last. */
  all() {
    if (this.#listed.version !== this.version) {
      const known = [...this.#state.commands.values()].sort(bySending);
      this.#listed = { version: this.version, commands: [...known, ...this.#sending.values()] };
    }
    return this.#listed.commands;
  }

  get(id) {
    return this.#state.commands.get(id) ?? this.#sending.get(id) ?? null;
  }

  /** Process the server's answers; call before painting commands. */
  readAnswers() {
    this.#readError();
    if (!this.#commandsChanged(this.#state.versions.commands)) return;
    for (const id of this.#sending.keys()) {
      if (!this.#state.commands.has(id)) continue;
      this.#socket.settle(id);
      this.#sending.delete(id);
    }
    this.version += 1;
  }

  #readError() {
    const { lastError, versions } = this.#state;
    if (!this.#errorChanged(versions.errors) || !lastError) return;
    const { command_id: id } = lastError;
    // The answer to an unparsable command has no id; it is about the oldest one on its way.
    const refused = id ? this.#sending.get(id) : this.#onTheWay()[0];
    if (refused?.state !== "sending") {
      // A command may be sent twice: an answer to one that is stored, refused or withdrawn says nothing new.
      if (!this.#own.has(id)) toast(lastError.error, "danger");
      return;
    }
    this.version += 1;
    if (lastError.again && this.#socket.postpone(refused.id)) {
      for (const command of this.#onTheWay()) this.#sending.set(command.id, { ...command, isBusy: true });
      return;
    }
    const outcome = lastError.again
      ? gettext("The database stored no commands for two minutes. Send the command again later.")
      : lastError.error;
    this.#sending.set(refused.id, { ...refused, state: "refused", isBusy: false, outcome });
    this.#socket.settle(refused.id);
  }

  /** Return the commands that are not stored yet, oldest first. */
  #onTheWay() {
    return [...this.#sending.values()].filter((command) => command.state === "sending");
  }
}

function bySending(left, right) {
  return left.sent_at < right.sent_at ? -1 : left.sent_at > right.sent_at ? 1 : 0;
}

/** Return a UUID; `crypto.randomUUID` only exists on https and localhost. */
function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
