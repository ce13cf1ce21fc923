// The attempts of a run: the start and the end of each.

import { element } from "../shared/dom.js";
import { duration } from "../shared/format.js";
import { fill, gettext, stateText } from "../shared/i18n.js";
import { panelRow } from "./row.js";

/** Return how many of the allowed restarts were used, empty if none is allowed. */
export function restartsText(run) {
  const { restarts: allowed, restarts_used: used } = run ?? {};
  return allowed ? fill(gettext("{used} of {allowed} restarts used"), { used, allowed }) : "";
}

export function attemptRow(attempt) {
  const details = [
    [endText(attempt), lengthText(attempt)].filter(Boolean).join(" · "),
    [beginText(attempt), ranksText(attempt), adoptedText(attempt)].filter(Boolean).join(" · "),
    attempt.error,
  ];
  const title = fill(gettext("Attempt {number}"), { number: attempt.number });
  const extra = { "data-testid": "attempt-row" };
  const row = panelRow(attempt.outcome || "running", title, details, attempt.started_at, extra);
  if (attempt.outcome) {
    const badge = element("span", {
      class: `state state-${attempt.outcome} state-small`,
      text: stateText(attempt.outcome),
    });
    row.querySelector(".entry-title").append(" ", badge);
  }
  if (attempt.traceback) row.querySelector(".entry-text").append(traceback(attempt.traceback));
  return row;
}

function endText(attempt) {
  if (!attempt.ended_at) return gettext("in progress");
  const { exit_code: code, signal } = attempt;
  return [
    code !== null && code !== undefined ? fill(gettext("exit code {code}"), { code }) : "",
    signal ? fill(gettext("signal {name}"), { name: signal }) : "",
  ]
    .filter(Boolean)
    .join(" · ");
}

function lengthText({ started_at: started, ended_at: ended }) {
  return started && ended ? duration((Date.parse(ended) - Date.parse(started)) / 1000) : "";
}

function beginText({ resumed_from_step: step }) {
  return step !== null && step !== undefined ? fill(gettext("resumed from step {x}"), { x: step }) : "";
}

function ranksText({ ranks }) {
  return ranks > 1 ? fill(gettext("{count} ranks"), { count: ranks }) : "";
}

/** Return the text about supervisors that died and were replaced while the training continued. */
function adoptedText({ adoptions }) {
  return adoptions ? fill(gettext("supervisor replaced: {count}"), { count: adoptions }) : "";
}

function traceback(text) {
  return element(
    "details",
    { class: "traceback" },
    element("summary", { text: gettext("Traceback") }),
    element("pre", { tabindex: "0", text }),
  );
}
