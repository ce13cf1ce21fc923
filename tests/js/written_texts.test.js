import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { mayBeMarkdown, WrittenTexts } from "../../static/js/commands/written_texts.js";

const ADDRESSES = { written: "/api/runs/7/commands/html/", login: "/login/" };
const note = (id, text, more = {}) => ({ id, command: "note", arguments: { text }, state: "applied", reason: "", ...more });
const settled = () => new Promise((resolve) => setImmediate(resolve));

/**
 * Return the texts, the addresses that they requested, and functions that answer and refuse the open request. A request
 * after the first one waits `wait` ms.
 */
function scene(wait = 0) {
  const asked = [];
  let open = null;
  const get = (address) => {
    asked.push(address);
    return new Promise((resolve, reject) => (open = { resolve, reject }));
  };
  let changes = 0;
  const texts = new WrittenTexts(ADDRESSES, () => (changes += 1), get, () => wait);
  const answer = async (...items) => {
    open.resolve({ items });
    await settled();
  };
  const fail = async () => {
    open.reject(new Error("status 503"));
    await settled();
  };
  return { texts, asked, answer, fail, changes: () => changes };
}

test("it finds the texts that Markdown shows differently", () => {
  const signs = [
    "**bold**", "a *word*", "_so_", "see _this_", "`code`", "[a](https://a.example)", "https://a.example", "mail: mailto:a@b.example",
    "<a@b.example>", "# heading", "> quoted", "- one", "+ one", "1. one", "2) one", "a\n===", "a\n---", "a | b\n-|-", "~~gone~~",
    "    code", "\tcode", "a &amp; b", "\\*", "first\n- second",
  ];
  for (const text of signs) assert.ok(mayBeMarkdown(text), text);
  const plain = [
    "", "calmer", "paused to think", "learning_rate × 0.5", "loss > 3 at 12:05", "a - b", "αβγ", "first\nsecond", "1.5 is too much",
    "run #7", "R&D", "why? (no idea)", "a | b", "x = 1", "先停一下",
  ];
  for (const text of plain) assert.ok(!mayBeMarkdown(text), text);
});

test("it requests what it lacks, in one request at a time, and each once", async () => {
  const { texts, asked, answer, changes } = scene();
  const commands = [note("a", "**a**"), note("b", "plain"), note("c", "_c_", { state: "sending" })];
  const before = texts.update(commands);
  assert.deepEqual(asked, ["/api/runs/7/commands/html/?command=a"]);
  assert.deepEqual(texts.of(commands[0]), { note: "", reason: "" }, "shown as text until then");
  const reasoned = { id: "d", command: "stop", state: "sent", reason: "see `log`" };
  const ruled = { ...reasoned, id: "e", cause: { kind: "alert" } };
  commands[2].state = "sent";
  commands.push(reasoned, ruled);
  texts.update(commands);
  assert.equal(asked.length, 1);
  await answer({ id: "a", note: "<p><strong>a</strong></p>", reason: "" });
  assert.equal(changes(), 1);
  assert.ok(texts.update(commands) > before);
  assert.equal(texts.of(commands[0]).note, "<p><strong>a</strong></p>");
  assert.equal(asked[1], "/api/runs/7/commands/html/?command=c&command=d");
  // A command that the portal refused has no row.
  await answer({ id: "d", note: "", reason: "<p>see <code>log</code></p>" });
  texts.update(commands);
  assert.equal(asked.length, 2);
  assert.deepEqual(texts.of(commands[2]), { note: "", reason: "" });
});

test("it requests at most 20 at once, and waits after a failure", async () => {
  const { texts, asked, answer, fail } = scene();
  const commands = Array.from({ length: 25 }, (_, index) => note(`n${index}`, `**${index}**`));
  texts.update(commands);
  await answer(...commands.slice(0, 20).map(({ id }) => ({ id, note: "<p></p>", reason: "" })));
  texts.update(commands);
  assert.deepEqual(asked.map((address) => address.split("command=").length - 1), [20, 5]);
  await fail();
  texts.update(commands);
  assert.equal(asked.length, 2);
  assert.deepEqual(texts.of(commands[24]), { note: "", reason: "" });
});

test("the request for a note that arrives later waits, because all open pages of the run receive it at once", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  let now = 1000;
  mock.method(performance, "now", () => now);
  const { texts, asked, answer, changes } = scene(400);
  const commands = [note("a", "**a**")];
  texts.update(commands);
  assert.equal(asked.length, 1, "the first request does not wait");
  await answer({ id: "a", note: "<p></p>", reason: "" });
  commands.push(note("b", "**b**"));
  texts.update(commands);
  now += 399;
  texts.update(commands);
  assert.equal(asked.length, 1);
  const before = changes();
  mock.timers.tick(401);
  now += 2;
  assert.equal(changes(), before + 1, "a paint is requested when the time has come");
  texts.update(commands);
  assert.equal(asked.length, 2);
  mock.timers.reset();
  mock.restoreAll();
});

test("it forgets the HTML of commands that are no longer shown, and requests it again if they are", async () => {
  const { texts, asked, answer } = scene();
  const first = note("first", "**first**");
  texts.update([first]);
  await answer({ id: "first", note: "<p>first</p>", reason: "" });
  const plain = Array.from({ length: 599 }, (_, index) => note(`n${index}`, "plain"));
  texts.update([...plain, first]);
  assert.equal(texts.of(first).note, "<p>first</p>", "kept while there are few");
  texts.update([...plain, note("last", "plain")]);
  assert.equal(texts.of(first).note, "");
  texts.update([first]);
  assert.equal(asked.length, 2);
});
