import assert from "node:assert/strict";
import { test } from "node:test";

import { CommandClient } from "../../static/js/commands/client.js";
import { LONGEST_BUSY_MS, Outgoing } from "../../static/js/run/socket/outgoing.js";
import { stageText } from "../../static/js/commands/stages.js";
import { canBeCancelled } from "../../static/js/commands/text.js";
import { applyEvent, emptyState } from "../../static/js/state/run_state.js";

/** A page with a portal that answers as the test says. `sent` are the ids that arrived; `pass(ms)` lets time pass. */
function page() {
  const sent = [];
  let now = 0;
  let due = null;
  const clock = {
    now: () => now,
    start: (act, ms) => (due = { act, at: now + ms }),
    stop: (timer) => (due = due === timer ? null : due),
  };
  const outgoing = new Outgoing((payload) => sent.push(payload.id), clock);
  const socket = {
    command: (payload) => outgoing.put(payload),
    settle: (id) => outgoing.settle(id),
    postpone: (id) => outgoing.postpone(id),
  };
  const state = emptyState();
  const client = new CommandClient(state, socket, () => {});
  const receive = (frame) => {
    applyEvent(state, frame);
    client.readAnswers();
  };
  let seq = 0;
  return {
    sent,
    client,
    outgoing,
    pass: (ms) => {
      now += ms;
      if (!due || due.at > now) return;
      const { act } = due;
      due = null;
      act();
    },
    busy: (id) => receive({ kind: "error", error: "busy", field: "", command_id: id, again: true }),
    refuse: (id) => receive({ kind: "error", error: "not allowed", field: "", command_id: id, again: false }),
    store: (id, command) =>
      receive({ kind: "command", seq: ++seq, at: "2026-01-01T00:00:00Z", id, command, arguments: {}, state: "sent", sent_at: "2026-01-01T00:00:00Z" }),
  };
}

test("a command that meets a busy database is sent again with the same id until it is stored", () => {
  const { client, sent, busy, pass, store } = page();
  const id = client.send("pause");
  busy(id);
  assert.equal(client.get(id).state, "sending");
  assert.match(stageText(client.get(id)), /busy.*tries again/);
  pass(10);
  assert.deepEqual(sent, [id]);
  pass(2000);
  busy(id);
  pass(2000);
  assert.deepEqual(sent, [id, id, id]);
  store(id, "pause");
  assert.equal(client.get(id).state, "sent");
  pass(60_000);
  assert.equal(sent.length, 3);
});

test("commands keep their order", () => {
  const { client, sent, busy, pass, store, outgoing } = page();
  const [first, second] = [client.send("pause"), client.send("resume")];
  assert.deepEqual(sent, [first]);
  busy(first);
  const third = client.send("note", { text: "a" });
  assert.match(stageText(client.get(second)), /busy/);
  assert.match(stageText(client.get(third)), /busy/);
  pass(2000);
  // A new connection repeats the oldest one only.
  outgoing.sendFirst();
  assert.deepEqual(sent, [first, first, first]);
  store(first, "pause");
  store(second, "resume");
  assert.deepEqual(sent, [first, first, first, second, third]);
});

test("stop and end_process are sent at once, whatever waits before them", () => {
  const { client, sent, busy, pass, store, outgoing } = page();
  const first = client.send("pause");
  busy(first);
  const note = client.send("note", { text: "a" });
  const [stop, end] = [client.send("stop"), client.send("end_process")];
  assert.deepEqual(sent, [first, stop, end]);
  // A new connection, and a try after the database was busy, repeat them too.
  outgoing.sendFirst();
  assert.deepEqual(sent.splice(0), [first, stop, end, first, stop, end]);
  busy(stop);
  pass(2000);
  assert.deepEqual(sent.splice(0), [first, stop, end]);
  store(stop, "stop");
  assert.deepEqual(sent, []);
  store(first, "pause");
  assert.deepEqual(sent.splice(0), [note, end]);
  busy(end);
  store(note, "note");
  assert.deepEqual(sent, [end]);
});

test("a person can cancel a command that waits for the database, and the next one is sent", () => {
  const { client, sent, busy, pass } = page();
  const [first, second] = [client.send("stop"), client.send("pause")];
  assert.equal(canBeCancelled(client.get(first)), false);
  busy(first);
  assert.equal(canBeCancelled(client.get(first)), true);
  client.cancel(client.get(first));
  assert.equal(client.get(first), null);
  assert.deepEqual(sent, [first, second]);
  pass(60_000);
  assert.deepEqual(sent, [first, second]);
});

test("a button from before a command was stored cancels it in the run", () => {
  const { client, sent, busy, store } = page();
  const id = client.send("pause");
  busy(id);
  const shown = client.get(id);
  store(id, "pause");
  client.cancel(shown);
  assert.equal(sent.length, 2);
  assert.deepEqual(client.get(sent[1]).arguments, { command: id });
});

test("it gives up after two minutes and says so", () => {
  const { client, sent, busy, pass } = page();
  const [first, second] = [client.send("stop"), client.send("pause")];
  for (let ms = 0; ms <= LONGEST_BUSY_MS; ms += 2000) {
    busy(first);
    pass(2000);
  }
  assert.equal(client.get(first).state, "refused");
  assert.match(client.get(first).outcome, /two minutes/);
  assert.equal(canBeCancelled(client.get(first)), false);
  assert.equal(sent.at(-1), second);
});

test("an answer about a command that is stored already changes no other command", () => {
  const { client, sent, busy, refuse, store } = page();
  const first = client.send("pause");
  store(first, "pause");
  const second = client.send("resume");
  for (const late of [busy, refuse]) {
    late(first);
    assert.equal(client.get(first).state, "sent");
    assert.equal(client.get(second).state, "sending");
    assert.equal(client.get(second).isBusy, false);
  }
  assert.deepEqual(sent, [first, second]);
});

test("a late answer about a refused command changes nothing", () => {
  const { client, busy, refuse } = page();
  const id = client.send("stop");
  refuse(id);
  busy(id);
  assert.equal(client.get(id).outcome, "not allowed");
});

test("a refusal is final, and one without an id is about the command that is on its way", () => {
  const { client, sent, refuse } = page();
  const [first, second] = [client.send("stop"), client.send("pause")];
  refuse("");
  assert.equal(client.get(first).state, "refused");
  assert.equal(client.get(second).state, "sending");
  assert.deepEqual(sent, [first, second]);
});
