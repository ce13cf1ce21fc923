// The buttons for a run that is not running, shown according to its state.

import { startCopyButtons } from "../shared/clipboard.js";

const state = document.getElementById("state");
const run = document.getElementById("run");

function showForState() {
  for (const part of run.querySelectorAll("[data-for-states]"))
    part.hidden = !part.dataset.forStates.split(" ").includes(state.dataset.state);
}

if (state && run) new MutationObserver(showForState).observe(state, { attributeFilter: ["data-state"] });
startCopyButtons();
