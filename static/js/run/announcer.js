// Tells screen readers what changed, once, in a short sentence: the state of the run, and what keeps commands or steps
// waiting. Numbers are never announced, because they change all the time.

import { setText } from "../shared/dom.js";
import { fill, gettext, stateText } from "../shared/i18n.js";

// By name: what begins and ends while a run is live.
const SPANS = {
  not_looking_since: [
    gettext("The script no longer reads run.stopping, so commands wait."),
    gettext("The script reads run.stopping again."),
  ],
  stalled_since: [gettext("The training is stalled: it completes no steps."), gettext("The training completes steps again.")],
};

export class Announcer {
  #region;
  #before = null;

  /** `region` is a polite live region, empty at first. */
  constructor(region) {
    this.#region = region;
  }

  say(text) {
    setText(this.#region, text);
  }

  /** Announce what changed since the last look; the first look at a run announces nothing. */
  look(run) {
    const now = { state: run.state, isLive: run.group === "live" };
    for (const name of Object.keys(SPANS)) now[name] = now.isLive && Boolean(run[name]);
    const text = this.#before ? changesText(this.#before, now) : "";
    this.#before = now;
    if (text) this.say(text);
  }
}

function changesText(before, now) {
  const texts = [];
  if (now.state !== before.state) texts.push(fill(gettext("State: {state}."), { state: stateText(now.state) }));
  for (const [name, [began, ended]] of Object.entries(SPANS)) {
    // The end of a run ends both, but says nothing about them.
    if (now[name] !== before[name] && now.isLive) texts.push(now[name] ? began : ended);
  }
  return texts.join(" ");
}
