// The menu of the columns of a list, whose content is fetched when it is first opened.

import { element, setText } from "../shared/dom.js";
import { gettext } from "../shared/i18n.js";

/** `menu` is the details element, `fetchMenu` fetches its content, `changed` is called after a choice. */
export function columnMenu(menu, fetchMenu, changed) {
  const place = menu.querySelector("#column-menu");
  let isFilled = false;

  async function fill() {
    try {
      const fresh = await fetchMenu();
      if (!fresh) return;
      isFilled = true;
      place.replaceChildren(...fresh.childNodes);
    } catch (error) {
      refuse(error.message);
      return;
    }
    const search = place.querySelector("#column-filter");
    search.addEventListener("input", (event) => {
      event.stopPropagation();
      narrow(search.value);
    });
    search.focus({ preventScroll: true });
  }

  function refuse(sentence) {
    let note = place.querySelector("[data-refused]");
    if (!note) {
      const again = element("button", { class: "btn btn-sm", type: "button", text: gettext("Try again") });
      again.addEventListener("click", fill);
      note = element("div", { "data-refused": true }, element("p", { role: "status" }), again);
      place.prepend(note);
    }
    setText(note.querySelector("p"), sentence);
  }

  function narrow(text) {
    const wanted = text.trim().toLocaleLowerCase();
    for (const group of place.querySelectorAll("[data-group]")) {
      const labels = [...group.querySelectorAll("label")];
      for (const label of labels) label.hidden = !label.dataset.name.toLocaleLowerCase().includes(wanted);
      group.hidden = labels.every((label) => label.hidden);
    }
  }

  menu.addEventListener("toggle", () => {
    // The list may show other runs meanwhile, with other parameters.
    if (menu.open && !isFilled) fill();
  });
  place.addEventListener("click", (event) => {
    if (!event.target.closest("[data-default]")) return;
    for (const input of place.querySelectorAll("input[name=column]")) {
      if (input.type === "hidden") input.remove();
      else input.checked = input.defaultChecked = false;
    }
    isFilled = false;
    menu.open = false;
    changed();
  });
}

/** Close `menu` on Escape and on a click elsewhere. */
export function closesByItself(menu) {
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  document.addEventListener("click", (event) => {
    if (menu.open && !menu.contains(event.target)) menu.open = false;
  });
}
