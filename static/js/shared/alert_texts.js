// The titles and meanings of alerts by detector, and texts of causes, in the reader's language.

import { clock, count, number } from "./format.js";
import { fill, gettext } from "./i18n.js";

/** Return {title, text} of an alert; texts from the training's own code are unchanged. */
export function alertTexts({ detector, title, text, cause }) {
  const happened = causeText(cause, text);
  const known = {
    "non-finite": [gettext("Not finite"), gettext("A value is NaN or infinite.")],
    spike: [gettext("Spike"), gettext("The loss jumped far above its usual level.")],
    divergence: [gettext("Divergence"), gettext("The metric gets worse instead of better.")],
    "weight-growth": [gettext("Weights grew"), gettext("The weights of a layer grew far beyond their usual size.")],
    plateau: [gettext("Plateau"), gettext("The metric has not improved for a long time.")],
    overfitting: [gettext("Overfitting"), gettext("The validation loss rises while the training loss falls.")],
    throughput: [gettext("Slower"), gettext("The speed fell below half of the usual speed.")],
    stall: [gettext("Stalled"), gettext("No step was completed for far longer than usual.")],
    "rank-lag": [gettext("Slow rank"), gettext("This rank takes longer per step than the others.")],
    "data-bound": [gettext("Waiting for data"), gettext("The training spends most of its time waiting for data.")],
    "gpu-idle": [gettext("GPU idle"), gettext("The GPU is almost idle while the training runs.")],
    "gpu-hot": [gettext("GPU hot"), gettext("The GPU is close to the temperature at which it throttles.")],
    "gpu-throttled": [gettext("GPU throttled"), gettext("The GPU is throttled because of heat or power.")],
    "gpu-memory": [gettext("GPU memory nearly full"), gettext("Almost all memory of the GPU is in use.")],
    // Faults of the run as a whole, whose text describes the event.
    crash: [gettext("Crashed"), happened],
    restart: [gettext("Started again"), happened],
    lost: [gettext("Lost"), happened],
    disk: [gettext("Disk nearly full"), happened],
    threshold: [gettext("Beyond its limit"), gettext("The value is beyond the limit.")],
  }[detector];
  if (!known) return { title, text };
  // For a loss that went wrong: the layer in which the fault began.
  return { title: known[0], text: cause?.kind === "layer" ? `${known[1]} ${happened}` : known[1] };
}

/** Return why a command was sent, or why a run is in its state; texts of a person or a training are unchanged. */
export function reasonText({ reason, cause }) {
  return causeText(cause, reason);
}

/** Return the text of a cause from the server, `text` if there is none. docs/protocol.md has kinds and values. */
function causeText(cause, text) {
  switch (cause?.kind) {
    case "silence":
      return fill(gettext("No heartbeat from the training host for {seconds} s."), cause);
    case "silent_host":
      return fill(
        gettext("No contact with the training host since {since}. If the training is still running, its records are on the disk of that host."),
        { since: clock(cause.since) },
      );
    case "death":
      return gettext("The training and its supervisor have died on this host. The cause is being determined.");
    case "little_space":
      return fill(gettext("{free} GiB of {total} GiB are free."), { free: number(cause.free), total: number(cause.total) });
    case "layer":
      return layerText(cause);
    case "alert":
      return [alertTexts(cause).title, cause.series].filter(Boolean).join(" · ");
    case "link": {
      const named = { ...cause, title: alertTexts(cause).title };
      return cause.destination
        ? fill(gettext("Alert {alert}: {title} · by a link sent to {destination}"), named)
        : fill(gettext("Alert {alert}: {title} · by a link of a message"), named);
    }
    case "replay":
      return fill(gettext("Replay of run {run}."), cause);
    case "signal":
    case "exit_code":
    case "killed_for_memory":
    case "unwatched":
    case "rebooted":
    case "scheduler":
    case "interrupted":
    case "end_process":
      return endText(cause);
    default:
      return text;
  }
}

/** Return the text about the layer in which a fault began. `times` is null if the norm was not finite. */
function layerText({ layer, measure, step, times }) {
  const usual = {
    gradient: gettext("The fault began in {layer}, whose gradient norm was {times}× its usual value at step {step}."),
    update: gettext("The fault began in {layer}, whose update norm was {times}× its usual value at step {step}."),
    weight: gettext("The fault began in {layer}, whose weight norm was {times}× its usual value at step {step}."),
  };
  const notFinite = {
    gradient: gettext("The fault began in {layer}, whose gradient norm was not finite at step {step}."),
    update: gettext("The fault began in {layer}, whose update norm was not finite at step {step}."),
    weight: gettext("The fault began in {layer}, whose weight norm was not finite at step {step}."),
  };
  const shown = times === null || times === undefined ? "" : number(Number(times.toPrecision(2)));
  return fill((shown ? usual : notFinite)[measure] ?? "", { layer, times: shown, step: count(step) });
}

/** Return how a training ended by itself: all of it, or one of its ranks. */
function endText(cause) {
  const isRank = cause.rank != null;
  switch (cause.kind) {
    case "signal":
      return fill(
        isRank ? gettext("Rank {rank} was ended by {signal}.") : gettext("The training process was ended by {signal}."),
        cause,
      );
    case "exit_code": {
      const text = isRank
        ? gettext("Rank {rank} ended with exit code {code}.")
        : gettext("The training process ended with exit code {code}.");
      const last = cause.last_line ? fill(gettext("Its last line was: {last_line}"), cause) : "";
      return [fill(text, cause), last].filter(Boolean).join(" ");
    }
    case "killed_for_memory": {
      const text = isRank
        ? gettext(
            "Rank {rank} ran out of host memory: the kernel ended the process; make batch_size or the model smaller, use fewer DataLoader workers, or allow more memory.",
          )
        : gettext(
            "Out of host memory: the kernel ended the process; make batch_size or the model smaller, use fewer DataLoader workers, or allow more memory.",
          );
      return fill(text, cause);
    }
    case "unwatched":
      return isRank
        ? fill(gettext("Rank {rank} ended without a supervisor and left no exit record, so its exit status is unknown."), cause)
        : gettext("The training process ended without a supervisor and left no exit record, so its exit status is unknown.");
    case "rebooted":
      return gettext("The host was rebooted or lost power, and the training process left no exit record: probably it ended then.");
    case "scheduler":
      return schedulerText(cause.why);
    case "interrupted":
      return gettext("The training was ended at once by a second interrupt; no checkpoint was saved.");
    default:
      return gettext(
        "The training process was ended by a command, because the script did not stop: it did not read run.stopping.",
      );
  }
}

/** Return what became of the run after a rollback for the alert, "" if that is not known. */
export function afterRollBackText({ after_roll_back: found }) {
  switch (found?.kind) {
    case "recovered": {
      const text = found.before
        ? gettext("Since the rollback: {series} {now} at step {step}, {before} before the fault.")
        : gettext("Since the rollback: {series} {now} at step {step}.");
      return fill(text, { ...found, step: count(found.step) });
    }
    case "fault_returned":
      return fill(gettext("A fault began again after the rollback, at step {step}."), { step: count(found.step) });
    default:
      return "";
  }
}

/** Return what the alert's rule asked of the run, or why it did not; "" if it has no action. */
export function actionText({ action, action_state: state, action_text: text, held_back: why }) {
  const known = {
    pause: gettext("pause"),
    stop: gettext("stop"),
    save_checkpoint: gettext("save a checkpoint"),
    scale_knob: gettext("scale a knob"),
    roll_back: gettext("roll back"),
  };
  const reasons = {
    rule_changed: gettext("The rule was changed or deleted."),
    attempt_ended: gettext("Its attempt had ended."),
    same_cause: gettext("A rule has already done this for another alert that began within a minute of this one."),
    replayed: gettext("The run replays another run, so actions of rules are repeated from there."),
    acted_in_attempt: gettext("The rule has reached its limit of actions per attempt."),
    acted_often: gettext("The rule has reached its limit of actions per hour."),
    not_done: gettext("The training does not support saving checkpoints."),
    no_roll_back: gettext("The training cannot be rolled back."),
    no_checkpoint: gettext("The run has no good checkpoint before the fault."),
    no_knob: gettext("The training has no such knob."),
    too_small: gettext("The value would be smaller than the rule allows."),
  };
  if (!action) return "";
  const name = known[action] ?? action;
  if (state === "held_back") return fill(gettext("The rule did not act ({action}): {reason}"), { action: name, reason: reasons[why] ?? text });
  const what = text ? `${name}, ${text}` : name;
  if (state === "dry_run") return fill(gettext("Dry run; the rule would have done this: {action}"), { action: what });
  if (state === "asked") return fill(gettext("Action of the rule: {action}"), { action: what });
  return fill(gettext("The rule is about to act: {action}"), { action: what });
}

/** Return why Slurm ended the job of a training. */
function schedulerText(why) {
  const texts = {
    preempted: gettext("Slurm: preempted by a job of higher priority."),
    requeued: gettext("Slurm: the job was requeued."),
    out_of_time: gettext("Slurm: out of time."),
    cancelled: gettext("Slurm: the job was cancelled."),
    node_failed: gettext("Slurm: a node failed."),
  };
  return texts[why] ?? "";
}
