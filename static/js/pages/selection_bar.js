// The bar for the selected runs: actions for all of them, and their results.

import { element, setText, toast } from "../shared/dom.js";
import { postJson } from "../shared/http.js";
import { fill, gettext } from "../shared/i18n.js";
import { openSheet } from "../shared/shortcuts.js";
import { MOST_RUNS } from "./run_selection.js";

// At most 50 are compared individually, more in groups.
const MOST_COMPARED = 400;

/** `bar` is the form with the buttons, `told` the element for the result, `refresh` reloads the list. */
export function selectionBar(bar, told, selection, refresh) {
  const compare = bar.querySelector("[type=submit]");
  const note = bar.querySelector(".compare-note");
  // Of one run alone.
  const again = bar.querySelector("a[data-again]");
  const exported = [...bar.querySelectorAll("a[data-export]")];

  function show() {
    const { runs } = selection;
    bar.classList.toggle("compare-on", runs.length > 0);
    for (const part of bar.querySelectorAll("[data-part]")) part.hidden = !runs.length;
    setText(compare.querySelector("[data-slot=text]"), fill(gettext("Compare {count}"), { count: runs.length }));
    compare.disabled = runs.length > MOST_COMPARED;
    setText(note, noteOn(runs.length));
    const query = new URLSearchParams(runs.map((run) => ["run", run]));
    if (again) {
      again.hidden = runs.length !== 1;
      again.href = again.dataset.again.replace("/0/", `/${runs[0] ?? 0}/`);
    }
    for (const link of exported) link.href = `${link.dataset.export}?${query}`;
  }

  /** Send what to do with the selected runs; return whether the portal did it or said why not. */
  async function ask(action, more = {}) {
    const { runs } = selection;
    let isAnswered = false;
    try {
      const answer = await postJson(bar.dataset.several, { runs: runs.map(Number), action, ...more }, bar.dataset.login);
      tell(action, answer, runs.length);
      selection.remove(answer.done);
      isAnswered = true;
    } catch (error) {
      toast(error.message, "danger", "selected");
    }
    refresh();
    return isAnswered;
  }

  /** Show the number of changed runs, and the reason for each other run. */
  function tell(action, { done, left_out: leftOut }, count) {
    const text = fill(sentenceOf(action), { done: done.length, count });
    if (!leftOut.length) {
      told.hidden = true;
      toast(text, "info", "selected");
      return;
    }
    const reasons = leftOut.map((each) => element("li", { text: `#${each.run} ${each.name}: ${each.why}` }));
    setText(told.querySelector("[data-slot=text]"), text);
    told.querySelector("ul").replaceChildren(...reasons);
    told.hidden = false;
    told.focus({ preventScroll: false });
  }

  bar.addEventListener("submit", (event) => {
    event.preventDefault();
    window.location.assign(`${bar.action}?${new URLSearchParams(selection.runs.map((run) => ["run", run]))}`);
  });
  bar.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.clear !== undefined) selection.remove(selection.runs);
    const action = button?.dataset.do;
    if (!action) return;
    const sheet = document.getElementById(`${action}-runs`);
    if (!sheet) ask(action);
    else {
      const title = sheet.querySelector("h2");
      setText(title, fill(title.dataset.text, { count: selection.runs.length }));
      openSheet(sheet);
    }
  });
  told.querySelector("[data-dismiss]").addEventListener("click", () => {
    told.hidden = true;
  });
  for (const sheet of document.querySelectorAll("dialog[data-action]")) {
    const form = sheet.querySelector("form");
    sheet.addEventListener("close", async () => {
      const isSent = sheet.returnValue === "send";
      sheet.returnValue = "";
      const [fields, entered] = [fieldsOf(form), [...form.elements].map(({ value }) => value)];
      form.reset();
      if (!isSent || (await ask(sheet.dataset.action, fields)) || sheet.open) return;
      // The portal does not have it: it is there when the sheet is opened again.
      for (const [place, value] of entered.entries()) form.elements[place].value = value;
    });
  }
  return show;
}

function fieldsOf(form) {
  const { add, remove, reason } = form.elements;
  const names = (field) => field.value.split(",").filter((name) => name.trim());
  return { ...(add && { add: names(add), remove: names(remove) }), ...(reason?.value && { reason: reason.value }) };
}

function noteOn(count) {
  if (count >= MOST_RUNS) return fill(gettext("At most {most} runs can be selected."), { most: MOST_RUNS });
  if (count > MOST_COMPARED)
    return fill(gettext("{count} selected; at most {most} runs can be compared."), { count, most: MOST_COMPARED });
  return count ? fill(gettext("{count} selected"), { count }) : "";
}

function sentenceOf(action) {
  switch (action) {
    case "tag":
      return gettext("The tags of {done} of {count} runs are changed.");
    case "stop":
      return gettext("{done} of {count} runs are asked to stop.");
    case "archive":
      return gettext("{done} of {count} runs are archived.");
    case "unarchive":
      return gettext("{done} of {count} runs were taken out of the archive.");
    default:
      return gettext("{done} of {count} runs are deleted.");
  }
}
