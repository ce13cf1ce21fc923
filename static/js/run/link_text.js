// The text of the dot beside the state of a run: the connection of the page to the portal, not of the run. Pure.

import { gettext } from "../shared/i18n.js";

const TEXTS = {
  connecting: gettext("connecting"),
  live: gettext("live"),
  late: gettext("late: updates arrive some seconds late"),
  database: gettext("from the database: up to 2 s late"),
  unavailable: gettext("database unavailable"),
  unwritable: gettext("database takes no changes"),
  reconnecting: gettext("reconnecting"),
  offline: gettext("offline"),
};

/** Return the text of `link`; if the run is not running, nothing is called live. */
export function linkText(link, run) {
  if (link === "live" && run?.group !== "live") return gettext("connected");
  return TEXTS[link] ?? link;
}

/** Return a sentence about `link`, "" if its text says enough. */
export function linkSentence(link, run) {
  if (link === "unwritable" && run?.group === "live")
    return gettext("The database takes no changes now: another process has locked it, or it is read-only. The training continues, and its points are safe on its host: they appear here afterwards.");
  if (link !== "unavailable") return "";
  if (run?.group === "live")
    return gettext("The database does not answer. The training continues, and its points are safe on its host: they appear here when the database is back.");
  return gettext("The database does not answer. This page shows the last known state.");
}
