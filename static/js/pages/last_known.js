// A page that was repeated during an outage of the database: it loads again when the portal can answer, but not while
// somebody enters something in it.

const RETRY_MS = 2000;
// What the portal answers in an outage, and its proxy. All else, such as the login, is for the reader to see.
const NO_ANSWERS = [502, 503, 504];

async function answers() {
  try {
    return !NO_ANSWERS.includes((await fetch(window.location.href)).status);
  } catch {
    return false;
  }
}

function isEntering() {
  return Boolean(document.querySelector("dialog[open]")) || [...document.querySelectorAll("input, textarea")].some(isEntered);
}

/** Return whether a field has a text that would be lost. Searches are in the address; scripts set fields of no form. */
function isEntered(field) {
  if (field.value === field.defaultValue || field.closest("dialog")) return false;
  return field.form?.method === "post" || field === document.activeElement;
}

do await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
while (isEntering() || !(await answers()) || isEntering());
window.location.reload();
