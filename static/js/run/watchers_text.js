// The texts about the people who watch a run.

import { fill, gettext } from "../shared/i18n.js";

/** Return the lines about `watchers`: names, the number of other members, and the number of guests. */
export function watcherLines({ count, guests, names }) {
  const more = count - guests - names.length;
  return [
    ...names,
    ...(more > 0 ? [fill(gettext("and {count} more"), { count: more })] : []),
    ...(guests > 0 ? [fill(gettext("by share links: {count}"), { count: guests })] : []),
  ];
}
