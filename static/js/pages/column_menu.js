// The menu of the columns of a list, whose content is fetched when it is opened for other runs than before.

import { element, setText } from "../shared/dom.js";
import { gettext } from "../shared/i18n.js";

// These choose how the runs are shown, not which.
const LAYOUT = ["column", "sort", "group", "open", "page", "view"];

/** `menu` is the details element, `fetchMenu` fetches its content, `changed` is called after a choice. */
export function columnMenu(menu, fetchMenu, changed) {
  const place = menu.querySelector("#column-menu");
  // For which runs the menu is filled; null if it is not.
  let filledFor = null;

  async function fill() {
    const wanted = runsOf(window.location.search);
    let fresh;
    // What is there belongs to other runs, and what is chosen in it would be replaced.
    place.inert = true;
    try {
      fresh = await fetchMenu();
    } catch (error) {
      refuse(error.message);
      return;
    } finally {
      place.inert = false;
    }
    if (!fresh) return;
    if (wanted !== runsOf(window.location.search)) {
      fill();
      return;
    }
    filledFor = wanted;
    place.replaceChildren(...fresh.childNodes);
    const search = place.querySelector("#column-filter");
    search.addEventListener("input", (event) => {
      event.stopPropagation();
      narrow(search.value);
    });
    search.focus({ preventScroll: true });
  }

  /** Say above what is there, which still has the chosen columns, that it could not be fetched. */
  function refuse(sentence) {
    let note = place.querySelector("[data-refused]");
    if (!note) {
      const again = element("button", { class: "btn btn-sm", type: "button", text: gettext("Try again") });
      again.addEventListener("click", fill);
      note = element("div", { "data-refused": true, role: "alert" }, element("p"), again);
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
    if (menu.open && filledFor !== runsOf(window.location.search)) fill();
  });
  place.addEventListener("click", (event) => {
    if (!event.target.closest("[data-default]")) return;
    for (const input of place.querySelectorAll("input[name=column]")) {
      if (input.type === "hidden") input.remove();
      else input.checked = input.defaultChecked = false;
    }
    filledFor = null;
    menu.open = false;
    changed();
  });
}

/** Return the part of a query that chooses the runs. */
function runsOf(query) {
  const fields = new URLSearchParams(query);
  for (const name of LAYOUT) fields.delete(name);
  fields.sort();
  return fields.toString();
}
