// The buttons of a chart that arrange the page: the star that pins it, and the one that hides it.

import { element, icon, toast } from "../../shared/dom.js";
import { fill, gettext } from "../../shared/i18n.js";

/** Return {star, hide, show()} for the chart `key`; `onChange()` lays the charts out again. */
export function cardButtons(key, preferences, onChange) {
  const star = element("button", { class: "chart-button chart-star", type: "button", "data-testid": "pin" }, icon("unpinned"));
  const hide = element("button", { class: "chart-button", type: "button", "data-testid": "hide" }, icon("eye"));
  const label = (button, text) => {
    button.setAttribute("aria-label", fill(text, { name: key }));
    button.title = fill(text, { name: key });
  };
  star.addEventListener("click", async () => {
    try {
      await preferences.setPinned(key, !preferences.isPinned(key));
    } catch (error) {
      toast(error.message, "danger");
      return;
    }
    onChange();
    // The chart stands elsewhere now.
    star.focus();
    star.closest(".chart-card").scrollIntoView({ block: "nearest" });
  });
  hide.addEventListener("click", () => {
    preferences.setHidden(key, !preferences.isHidden(key));
    onChange();
  });
  const show = () => {
    const [isPinned, isHidden] = [preferences.isPinned(key), preferences.isHidden(key)];
    star.setAttribute("aria-pressed", String(isPinned));
    star.replaceChildren(icon(isPinned ? "star" : "unpinned"));
    label(star, isPinned ? gettext("Unpin {name}") : gettext("Pin {name}"));
    hide.setAttribute("aria-pressed", String(isHidden));
    label(hide, isHidden ? gettext("Show {name} again") : gettext("Hide {name}"));
  };
  show();
  return { star, hide, show };
}
