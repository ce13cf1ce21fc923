// The text that replaces the charts while there are none: why, and how to get some. Pure.

import { fill, gettext } from "../../shared/i18n.js";

/** Return why there are no charts, by the state of the run; `start` is the command that starts it, "" if an agent does. */
export function noMetricsText({ run, viewer }, start) {
  if (!run) return gettext("Charts appear with the first point.");
  if (run.group === "lost") return gettext("The host of the run was disconnected, or went down, before a point was logged.");
  if (run.group === "ended") return gettext("The run ended before it logged a point. The attempts below show how.");
  if (run.state === "queued")
    return gettext("Charts appear with the first point. The run waits for a host to start it.");
  if (run.state !== "created")
    return gettext("Charts appear with the first point. The training has started and is getting ready.");
  if (!viewer?.may.length) return gettext("Charts appear with the first point. Nobody has started the run yet.");
  if (!start) return gettext("Charts appear with the first point. Queue the run: its agent starts it.");
  return fill(gettext("Charts appear with the first point. Start the run on its host: {command}"), { command: start });
}
