// The search for charts of the comparison. Pure.

import { filterOf } from "../panels/charts/filter.js";

/** Return {matches(name), error}, as on the page of a run; here, an invalid regular expression matches nothing. */
export function chartSearch(text) {
  const { matches, error } = filterOf(text);
  return error ? { matches: () => false, error: true } : { matches, error: false };
}
