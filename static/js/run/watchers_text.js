// The words for who watches a run.

import { fill, gettext } from "../shared/i18n.js";

/** Return the lines that say who `watchers` are: names, how many more members, and how many by share links. */
export function watcherLines({ count, guests, names }) {
  const more = count - guests - names.length;
  return [
    ...names,
    ...(more > 0 ? [fill(gettext("and {count} more"), { count: more })] : []),
    ...(guests > 0 ? [fill(gettext("by share links: {count}"), { count: guests })] : []),
  ];
}
