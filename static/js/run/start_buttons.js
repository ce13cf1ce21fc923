// What may be done with a run that is not running: its buttons come and go with the state that the page shows.

import { startCopyButtons } from "../shared/clipboard.js";

const state = document.getElementById("state");
const box = document.getElementById("starting");

function showForState() {
  for (const part of box.querySelectorAll("[data-for-states]"))
    part.hidden = !part.dataset.forStates.split(" ").includes(state.dataset.state);
}

if (state && box) new MutationObserver(showForState).observe(state, { attributeFilter: ["data-state"] });
startCopyButtons();
