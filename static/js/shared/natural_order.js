// Natural order of names: blocks.2 before blocks.10. Pure.

// One collator, because each localeCompare would create one. Names are the same in every language.
const COLLATOR = new Intl.Collator("en", { numeric: true });

/** Compare two names; different names are never equal. */
export function naturalOrder(left, right) {
  return COLLATOR.compare(left, right) || (left < right ? -1 : Number(left > right));
}
