// Buttons that copy the text of another element, whose selector is `data-copy`.

import { toast } from "./dom.js";
import { gettext } from "./i18n.js";

function select(element) {
  if (element.select) {
    element.select();
    return;
  }
  const range = document.createRange();
  range.selectNodeContents(element);
  const selection = window.getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

async function copy(element) {
  // Without TLS there is no clipboard API, but the selection can still be copied.
  if (navigator.clipboard) await navigator.clipboard.writeText(element.value ?? element.textContent);
  else {
    select(element);
    if (!document.execCommand("copy")) throw new Error("not copied");
  }
}

/** Copy the text of an element and confirm it; if the browser does not allow copying, select it for the reader. */
export async function copyText(element) {
  try {
    await copy(element);
    toast(gettext("Copied"), "info", "copy");
  } catch {
    select(element);
    toast(gettext("Press Ctrl-C to copy the selected text."), "info", "copy");
  }
}

export function startCopyButtons() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    const element = document.querySelector(button.dataset.copy);
    button.addEventListener("click", () => copyText(element));
  }
}
