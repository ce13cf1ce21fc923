// The filters and the order of the list: on a phone in one sheet, which a button opens; elsewhere in a row.

import { openSheet } from "../shared/shortcuts.js";

const PHONE = "(max-width: 767px)";

/** `form` has the elements of class filter-folds, the sheet (inside, so that its fields belong to the form), and the button. */
export function filterSheet(form) {
  const sheet = form.querySelector("dialog");
  const body = sheet.querySelector("[data-slot=filters]");
  const folds = [...form.querySelectorAll(".filter-folds")].map((fold) => {
    const home = document.createComment("");
    fold.before(home);
    return { fold, home };
  });
  const phone = window.matchMedia(PHONE);

  function place() {
    if (phone.matches) {
      body.append(...folds.map(({ fold }) => fold));
      return;
    }
    sheet.close();
    for (const { fold, home } of folds) home.after(fold);
  }

  form.querySelector("[data-filter-sheet]").addEventListener("click", () => openSheet(sheet));
  phone.addEventListener("change", place);
  place();
}
