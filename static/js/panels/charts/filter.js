// The filter for charts: a part of the name, or a regular expression after "re:". Pure.

const EXPRESSION = /^re:/i;

/**
 * Return {isOn, matches(name), error} for the typed text. Case is ignored in both forms. An invalid regular expression
 * matches every name, and `error` describes the problem; otherwise `error` is "".
 */
export function filterOf(typed) {
  const text = typed.trim();
  if (EXPRESSION.test(text)) return byExpression(text.replace(EXPRESSION, "").trim());
  const part = text.toLowerCase();
  return { isOn: part !== "", matches: (name) => name.toLowerCase().includes(part), error: "" };
}

function byExpression(source) {
  try {
    const expression = new RegExp(source, "i");
    return { isOn: source !== "", matches: (name) => expression.test(name), error: "" };
  } catch (error) {
    return { isOn: false, matches: () => true, error: error.message };
  }
}
