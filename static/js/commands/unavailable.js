// Why a command is not available now, as a sentence. Pure.

import { fill, gettext, stateText } from "../shared/i18n.js";

/**
 * Return why `kind` cannot be sent to `run`, "" if it can. `command`: {legal_in, is_optional}; `isUnderWay`: the same
 * command was sent and has no answer yet.
 */
export function unavailableText(run, command, kind, isUnderWay) {
  if (!command?.legal_in.includes(run.state)) return stateReason(run);
  if (command.is_optional && !run.offers.includes(kind)) {
    if (run.state === "created" || run.state === "queued") return gettext("The run has not started yet.");
    return gettext("The training does not support this command.");
  }
  return isUnderWay ? gettext("This command is already in progress.") : "";
}

function stateReason({ state, group }) {
  if (state === "created" || state === "queued") return gettext("The run has not started yet.");
  if (group === "ended") return gettext("The run has ended.");
  return fill(gettext("It is not possible while the run is in the state {state}."), { state: stateText(state) });
}
