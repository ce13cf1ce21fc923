import assert from "node:assert/strict";
import { test } from "node:test";

import { queryOf, viewOf } from "../../static/js/panels/charts/view_link.js";

const USUAL = {
  kind: "ema",
  smoothing: 0,
  log: false,
  outliers: true,
  over: "step",
  attempt: Infinity,
  zooms: { step: null, time: null },
  find: "",
  pins: [],
  own: {},
  added: {},
};

test("a link to a view leads to the same view", () => {
  const view = {
    kind: "gaussian",
    smoothing: 0.9,
    log: true,
    outliers: false,
    over: "relative",
    attempt: 2,
    zooms: { step: { from: 10.5, to: 200 }, time: { from: 1.7e9, to: 1.7e9 + 5 } },
    find: "re:layer/[0-9]+$ & more",
    pins: ["train/loss", "ünï/코드"],
    own: { "a:b": { log: false, range: [-1, 2.5] }, "train/loss": { log: true, range: null } },
    added: { "train/loss": ["validation/loss", 'a"b~c'] },
  };
  assert.deepEqual(viewOf(`?${queryOf(view)}`), view);
  assert.deepEqual(viewOf(`?${queryOf(USUAL)}`), USUAL);
});

test("an address without a view tells none", () => {
  assert.equal(viewOf(""), null);
  assert.equal(viewOf("?step=7"), null);
});

test("what cannot be read in an address is as usual", () => {
  const search = "?view=1&smooth=median:x&over=moon&zoom=9:1&range=5:1:train/loss&with=nothing&with=[1,2]&attempt=-";
  assert.deepEqual(viewOf(search), USUAL);
});
