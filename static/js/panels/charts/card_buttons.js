// The buttons of a chart that arrange the page: a star that pins it, and a button that hides it.

import { element, icon, toast } from "../../shared/dom.js";
import { fill, gettext } from "../../shared/i18n.js";

/**
 * Return {star, hide, show()} for the chart `key`, which people know as `name`; `onChange()` arranges the charts again.
 */
export function cardButtons(key, preferences, onChange, name = key) {
  const star = element("button", { class: "chart-button chart-star", type: "button", "data-testid": "pin" }, icon("unpinned"));
  const hide = element("button", { class: "menu-item", type: "button", "data-testid": "hide" });
  star.addEventListener("click", async () => {
    try {
      await preferences.setPinned(key, !preferences.isPinned(key));
    } catch (error) {
      toast(error.message, "danger");
      return;
    }
    onChange();
    // The chart has moved.
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
    star.title = fill(isPinned ? gettext("Unpin {name}") : gettext("Pin {name}"), { name });
    star.setAttribute("aria-label", star.title);
    const text = fill(isHidden ? gettext("Show {name} again") : gettext("Hide {name}"), { name });
    hide.replaceChildren(icon("eye"), text);
  };
  show();
  return { star, hide, show };
}
