// What the dot beside the state of a run says: how the page hears from the portal, not how the run is. Pure.

import { gettext } from "../shared/i18n.js";

const TEXTS = {
  connecting: gettext("connecting"),
  live: gettext("live"),
  degraded: gettext("degraded: up to 2 s late"),
  reconnecting: gettext("reconnecting"),
  offline: gettext("offline"),
};

/** Return the text of `link`; beside a run that is not under way nothing is called live. */
export function linkText(link, run) {
  if (link === "live" && run?.group !== "live") return gettext("connected");
  return TEXTS[link] ?? link;
}
