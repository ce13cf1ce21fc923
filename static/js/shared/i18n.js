// Texts in the reader's language, from Django's catalogue; English where there is none.

export function gettext(text) {
  return globalThis.django?.gettext?.(text) ?? text;
}

/** Return the language of the page as the reader's region writes it: en-GB where the page is English and they are. */
export function readersLocale() {
  const language = globalThis.document?.documentElement.lang;
  if (!language) return undefined;
  const base = (locale) => locale.split("-")[0];
  return navigator.languages?.find((locale) => base(locale) === base(language)) ?? language;
}

/** Fill the `{name}` places of a text. */
export function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (place, name) => String(values[name] ?? place));
}

/** Return the word for the state of a run or of a command, or for a command itself; unknown ones stay as they are. */
export function stateText(state) {
  const words = {
    created: gettext("created"),
    queued: gettext("queued"),
    running: gettext("running"),
    paused: gettext("paused"),
    finished: gettext("finished"),
    stopped: gettext("stopped"),
    failed: gettext("failed"),
    lost: gettext("lost"),
    sent: gettext("sent"),
    delivered: gettext("delivered"),
    applied: gettext("applied"),
    refused: gettext("refused"),
    expired: gettext("expired"),
    stop: gettext("stop"),
  };
  return words[state] ?? state;
}
