// The search for charts: by names that contain the text, or that match the pattern after `re:`. Pure.

const PATTERN = "re:";

/** Return {matches(name), error}: `error` is true for a pattern that is not valid, which matches nothing. */
export function chartSearch(text) {
  const wanted = text.trim();
  if (!wanted.startsWith(PATTERN)) {
    const part = wanted.toLowerCase();
    return { matches: (name) => name.toLowerCase().includes(part), error: false };
  }
  try {
    const pattern = new RegExp(wanted.slice(PATTERN.length), "i");
    return { matches: (name) => pattern.test(name), error: false };
  } catch {
    return { matches: () => false, error: true };
  }
}
