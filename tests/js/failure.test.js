import assert from "node:assert/strict";
import { test } from "node:test";

import { errorLine, lastLines } from "../../static/js/panels/failure.js";

const line = (text, more = {}) => ({ text, source: "console", level: "info", ...more });

test("the error of a console is where its last traceback begins", () => {
  const lines = [
    line("Traceback (most recent call last):"),
    line("ValueError: caught"),
    line("step 3"),
    line("\u001b[31mTraceback (most recent call last):"),
    line('  File "train.py", line 3'),
    line("RuntimeError: out of memory"),
    line("ended with exit code 1", { source: "steersman", level: "error" }),
  ];
  assert.equal(errorLine(lines), 3);
});

test("without a traceback it is the last line that is an error, and there may be none", () => {
  assert.equal(errorLine([line("a"), line("killed", { source: "steersman", level: "error" }), line("b")]), 1);
  assert.equal(errorLine([line("a", { level: "warning" }), line("", { source: "skipped", level: "warning" })]), -1);
  assert.equal(errorLine([]), -1);
});

test("the last lines are what was printed last, without its colours and without what was skipped", () => {
  const many = Array.from({ length: 30 }, (_, number) => line(`line ${number}`));
  const lines = lastLines([...many, line("", { source: "skipped" }), line("\u001b[1;32mdone\u001b[0m")]);
  assert.equal(lines.length, 20);
  assert.deepEqual(lines.slice(-2), ["line 29", "done"]);
});
