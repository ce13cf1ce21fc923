// The progress of a command: sent, delivered, applied; or refused, expired.

import { element, icon } from "../shared/dom.js";
import { fill, gettext, stateText } from "../shared/i18n.js";

const STAGES = ["sent", "delivered", "applied"];

/** Return the stages of a command as a list, with completed ones ticked. */
export function stageList(command) {
  const hasFailed = command.state === "refused" || command.state === "expired";
  const stages = hasFailed ? ["sent", command.state] : STAGES;
  const reached = stages.indexOf(command.state);
  const list = element("ol", { class: "stages" });
  stages.forEach((stage, index) => {
    const isDone = index <= reached;
    const isBad = hasFailed && index === reached;
    const picture = isBad ? "failed" : isDone ? "finished" : "created";
    list.append(
      element(
        "li",
        {
          class: `stage ${isDone ? "stage-done" : "stage-open"}${isBad ? " stage-bad" : ""}`,
          "data-stage": stage,
          "aria-current": index === reached ? "step" : null,
        },
        icon(picture),
        element("span", { text: stateText(stage) }),
      ),
    );
  });
  return list;
}

/** Return the events without those that only change the plan or the accepted commands, but not the state. */
export function withoutRepeatedStates(events) {
  let last = "";
  return events.filter((event) => {
    if (event.kind !== "status") return true;
    const goesOn = event.state === last && !event.reason && !event.remark;
    last = event.state;
    return !goesOn;
  });
}

/** Return the stage of the command as text: the current one and the next, or its outcome. */
export function stageText(command) {
  if (command.isBusy) return gettext("the database is busy or unavailable: the page tries again until the command is stored");
  if (command.state === "sending") return gettext("on its way to the portal …");
  if (command.state === "sent") return gettext("stored; waiting for the training host");
  if (command.state === "delivered") {
    if (command.command === "end_process") return gettext("SIGTERM was sent; SIGKILL follows after 10 s");
    if (command.at_step) return fill(gettext("waits for step {x}"), { x: command.at_step });
    if (command.at_epoch) return fill(gettext("waits for the end of epoch {x}"), { x: command.at_epoch });
    return gettext("delivered to the training; takes effect at the next step");
  }
  const hasStep = command.state === "applied" && command.step !== null && command.step !== undefined;
  const where = hasStep ? fill(gettext("at step {x}"), { x: command.step }) : "";
  return [where, command.outcome].filter(Boolean).join(" · ");
}

export function newestOfCommands(events) {
  const told = new Set();
  return events
    .toReversed()
    .filter((event) => {
      if (event.kind !== "command") return true;
      const isNew = !told.has(event.id);
      told.add(event.id);
      return isNew;
    })
    .toReversed();
}
