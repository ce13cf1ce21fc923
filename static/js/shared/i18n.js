// Texts in the reader's language, from Django's catalogue; English if there is none.

export function gettext(text) {
  return globalThis.django?.gettext?.(text) ?? text;
}

/**
 * Return the language of the page in the reader's regional form: en-GB if the page is English and the reader prefers
 * it.
 */
export function readersLocale() {
  const language = globalThis.document?.documentElement.lang;
  if (!language) return undefined;
  const base = (locale) => locale.split("-")[0];
  return navigator.languages?.find((locale) => base(locale) === base(language)) ?? language;
}

/** Fill the `{name}` placeholders of a text. */
export function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (place, name) => String(values[name] ?? place));
}

let stateTexts = {};

/** Set the server's texts for states of runs, commands and alerts, and for severities, in the reader's language. */
export function useStateTexts(texts) {
  stateTexts = texts;
}

/** Return the text for the state of a run or of a command; an unknown state is unchanged. */
export function stateText(state) {
  return stateTexts[state] ?? state;
}
