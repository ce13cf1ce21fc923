// The order of names as people count: blocks.2 before blocks.10. Pure.

// One collator: a comparison by localeCompare makes one each time. Names are the same in every language.
const COLLATOR = new Intl.Collator("en", { numeric: true });

/** Compare two names; whatever differs is never equal. */
export function naturalOrder(left, right) {
  return COLLATOR.compare(left, right) || (left < right ? -1 : Number(left > right));
}
