// The WebSocket of one run: a fresh ticket for each connection, back-off, acknowledgements, and commands in order.

import { WebSocket as ReconnectingSocket } from "partysocket";
import { databaseSentence, HttpError, postJson } from "../../shared/http.js";
import { gettext } from "../../shared/i18n.js";
import { countedRefusals, crowdedWait } from "./crowded.js";
import { missedEvent } from "./missed_events.js";
import { Outgoing } from "./outgoing.js";
import { pauseFor, reconnectionOptions } from "./reconnection.js";

const ACK_MS = 1000;
const PING_MS = 5000;
// A page that still lacks an event this long after a `pong` named it has missed it.
const MISSED_MS = 5000;
// A socket that is open but sends no greeting is closed after this time.
const GREETING_MS = 15_000;
// The reason for a reconnection is shown for this time.
const WHY_MS = 8000;
// A socket that is silent for this long after a ping is half open: the browser would notice minutes later.
const SILENT_MS = 25_000;
const OFFLINE_MS = 15_000;
const MOST_TICKET_FAILURES = 3;
const TRY_AGAIN = 1013;
const TOO_MANY = 4429;
const TOO_MANY_TICKETS = 429;
const UNAVAILABLE = 503;

const FINAL = {
  1009: gettext("The server refused a message of this page. Reload the page."),
  4400: gettext("The server refused a message of this page. Reload the page."),
  4401: gettext("The server does not accept this session. Log in again."),
  4403: gettext("You no longer have access to this run."),
  4404: gettext("This run no longer exists."),
};

export class RunSocket {
  #page;
  #since;
  #at;
  #onFrame;
  #onLink;
  #socket = null;
  #acked = 0;
  #heard = 0;
  #openedAt = 0;
  #isGreeted = false;
  #missing = null;
  #why = "";
  // The sentence that the portal sent instead of a ticket.
  #outage = "";
  // Whether the portal closed the last connection, because the database did not redeem the ticket.
  #isDelayed = false;
  #lostAt = 0;
  #ticketFailures = 0;
  #refusals = 0;
  #greetedAt = 0;
  #next = null;
  #outgoing = new Outgoing((payload) => this.#send({ kind: "command", ...payload }));
  #over = false;

  /**
   * `since()` returns the last applied seq, `at()` its time; `onFrame(frame)` gets messages, `onLink(state, sentence)`
   * the state of the connection.
   */
  constructor(page, { since, at, onFrame, onLink }) {
    this.#page = page;
    this.#since = since;
    this.#at = at;
    this.#onFrame = onFrame;
    this.#onLink = onLink;
  }

  connect() {
    if (this.#over) return;
    clearTimeout(this.#next);
    if (this.#socket) {
      this.#socket.reconnect();
      return;
    }
    this.#socket = new ReconnectingSocket(
      () => this.#address(),
      () => this.#protocols(),
      { ...reconnectionOptions(), shouldReconnectOnClose: ({ code }) => code !== TOO_MANY },
    );
    this.#socket.addEventListener("open", () => this.#opened());
    this.#socket.addEventListener("message", (event) => this.#receive(event.data));
    this.#socket.addEventListener("close", (event) => this.#closed(event.code));
    this.#socket.addEventListener("error", () => this.#lost());
    setInterval(() => this.#acknowledge(), ACK_MS);
    setInterval(() => this.#ping(), PING_MS);
    setInterval(() => this.#lookForMissed(), ACK_MS);
    window.addEventListener("online", () => this.#connectSoon());
    window.addEventListener("offline", () => this.#lost());
  }

  /** Close until `connect` is called again. */
  pause() {
    clearTimeout(this.#next);
    this.#socket?.close(1000);
  }

  /** Send a command. It is sent again after a reconnection until `settle(id)`. */
  command(payload) {
    this.#outgoing.put(payload);
  }

  settle(id) {
    this.#outgoing.settle(id);
  }

  /** Send a command again in a moment; return false if that was tried for too long. */
  postpone(id) {
    return this.#outgoing.postpone(id);
  }

  /** Request only the points of the series in `names`; return whether the request was sent. */
  look(names) {
    if (!this.#isOpen() || !this.#isGreeted) return false;
    this.#send({ kind: "sight", series: names });
    return true;
  }

  greeted() {
    this.#isGreeted = true;
    this.#greetedAt = performance.now();
    this.#onLink("open", this.#why);
    if (this.#why) setTimeout(() => this.#forgetWhy(), WHY_MS);
    this.#ticketFailures = 0;
    this.#lostAt = 0;
    this.#isDelayed = false;
    this.#outgoing.sendFirst();
  }

  #forgetWhy() {
    this.#why = "";
    if (this.#isOpen() && this.#isGreeted) this.#onLink("open", "");
  }

  #address() {
    const scheme = window.location.protocol === "https:" ? "wss" : "ws";
    const held = new URLSearchParams({ since: this.#since(), at: this.#at() });
    return `${scheme}://${window.location.host}${this.#page.addresses.socket}?${held}`;
  }

  async #protocols() {
    try {
      const { ticket } = await postJson(
        this.#page.addresses.tickets,
        { run: this.#page.run },
        this.#page.addresses.login,
      );
      this.#outage = "";
      return ["steersman.v1", `ticket.${ticket}`];
    } catch (error) {
      this.#outage = error.status === UNAVAILABLE ? error.said : "";
      this.#isDelayed = false;
      if (error instanceof HttpError && [401, 403, 404].includes(error.status)) this.#end(error.message);
      if (error instanceof HttpError && error.status === TOO_MANY_TICKETS) {
        this.pause();
        this.#waitForRoom(error.retryAfterMs);
      }
      throw error;
    }
  }

  #receive(text) {
    this.#heard = performance.now();
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return; // not from our server, which only sends JSON
    }
    // With many viewers, or if a viewer lags, several events are in one message.
    for (const frame of Array.isArray(message) ? message : [message]) this.#take(frame);
  }

  #take(frame) {
    if (frame.kind === "pong") this.#missing = missedEvent(this.#missing, this.#since(), frame.seq, this.#heard);
    this.#onFrame(frame);
  }

  #opened() {
    this.#heard = this.#openedAt = performance.now();
    this.#isGreeted = false;
    this.#missing = null;
  }

  /** Check for missed events: a page that lacks stored events must not be shown as live. */
  #lookForMissed() {
    if (!this.#isOpen()) return;
    const now = performance.now();
    if (!this.#isGreeted) {
      if (now - this.#openedAt > GREETING_MS) this.#again("");
      return;
    }
    this.#missing = missedEvent(this.#missing, this.#since(), 0, now);
    if (this.#missing && now - this.#missing.at > MISSED_MS)
      this.#again(gettext("Some events did not arrive: the page reconnects to read them."));
  }

  #again(sentence) {
    this.#missing = null;
    this.#openedAt = performance.now();
    this.#why = sentence;
    this.pause();
    this.#lost();
    this.#connectSoon();
  }

  /**
   * Reconnect after a random delay, because many pages may do so at the same moment, for example when a network is
   * back.
   */
  #connectSoon() {
    clearTimeout(this.#next);
    this.#next = setTimeout(() => this.#isOpen() || this.connect(), pauseFor(Math.random()));
  }

  #closed(code) {
    if (this.#over) return;
    this.#isDelayed = code === TRY_AGAIN;
    if (code === 4401) {
      this.#ticketFailures += 1;
      if (this.#ticketFailures >= MOST_TICKET_FAILURES) this.#end(FINAL[4401]);
    } else if (code === TOO_MANY) {
      this.#waitForRoom();
    } else if (FINAL[code]) {
      this.#end(FINAL[code]);
    }
    if (!this.#over) this.#lost();
  }

  /** Wait for a free place. Each try costs a ticket, so the waits grow, and are spread over pages. */
  #waitForRoom(leastMs = 0) {
    this.#refusals = countedRefusals(this.#refusals, this.#greetedAt, performance.now());
    this.#greetedAt = 0;
    this.#why = gettext("There are too many connections: the page tries again in a while.");
    clearTimeout(this.#next);
    this.#next = setTimeout(() => this.#tryAgain(), crowdedWait(this.#refusals, Math.random(), leastMs));
    this.#refusals += 1;
  }

  #tryAgain() {
    this.#why = "";
    this.connect();
  }

  #lost() {
    if (this.#over) return;
    this.#lostAt ||= performance.now();
    // A page that the portal answers is not offline, whatever its database does.
    const outage = this.#outage || (this.#isDelayed ? databaseSentence() : "");
    const offline = navigator.onLine === false || (!outage && performance.now() - this.#lostAt > OFFLINE_MS);
    this.#onLink(offline ? "offline" : "reconnecting", this.#why || outage);
  }

  #end(sentence) {
    this.#over = true;
    this.#socket?.close(1000);
    this.#onLink("offline", sentence);
  }

  #isOpen() {
    return this.#socket?.readyState === 1;
  }

  #send(message) {
    if (this.#isOpen()) this.#socket.send(JSON.stringify(message));
  }

  #acknowledge() {
    const seq = this.#since();
    if (seq === this.#acked || !this.#isOpen()) return;
    this.#acked = seq;
    this.#send({ kind: "ack", seq });
  }

  #ping() {
    if (!this.#isOpen()) {
      if (this.#lostAt) this.#lost();
      return;
    }
    if (performance.now() - this.#heard > SILENT_MS) {
      this.#lost();
      this.#socket.reconnect();
      return;
    }
    this.#send({ kind: "ping" });
  }
}
