// Names of metrics in another language than English.

import assert from "node:assert/strict";
import test from "node:test";

const CHINESE = { Loss: "损失", "Train loss": "训练损失", training: "训练", validation: "验证" };
// The names are translated when their module is loaded.
globalThis.django = { gettext: (text) => CHINESE[text] ?? text };
const { halfName, readableName } = await import("../../static/js/shared/format.js");

test("the halves of a usual metric are translated as its name is", () => {
  assert.equal(readableName("loss"), "损失");
  assert.deepEqual([halfName("loss", "training"), halfName("loss", "validation")], ["训练", "验证"]);
});

test("a metric of a person is English in title, table and legend", () => {
  assert.equal(readableName("my_score"), "My score");
  assert.equal(readableName("train_my_score"), "Train my score");
  assert.deepEqual([halfName("my_score", "training"), halfName("my_score", "validation")], ["training", "validation"]);
});
