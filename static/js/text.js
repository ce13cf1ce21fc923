// Texts in the reader's language, from Django's catalogue; English where there is none.

export function gettext(text) {
  return globalThis.django?.gettext?.(text) ?? text;
}

/** Fill `{name}` places of a translated text. */
export function fill(text, values) {
  return gettext(text).replace(/\{(\w+)\}/g, (place, name) => String(values[name] ?? place));
}
