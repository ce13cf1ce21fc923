// The tags beside the title of a run: added by Enter, removed by their ×. Several are separated by commas.

import { element, toast } from "../shared/dom.js";
import { postJson } from "../shared/http.js";
import { fill, gettext } from "../shared/i18n.js";

/** `addresses` are those of the page: `tags` is for changes, `list` is the list of runs. */
export function startTags(place, addresses) {
  const form = place?.querySelector("form");
  if (!form) return;
  const list = place.querySelector("[data-slot=list]");
  const field = form.elements.tag;

  async function change(changes) {
    try {
      const { tags } = await postJson(addresses.tags, changes, addresses.login);
      list.replaceChildren(...tags.map(chip));
      return true;
    } catch (error) {
      toast(error.message, "danger", "tags");
      return false;
    }
  }

  function chip(name) {
    const query = new URLSearchParams({ q: `tag = "${name}"` });
    const remove = element("button", {
      type: "button",
      "data-remove": name,
      "aria-label": fill(gettext("Remove the tag {tag}"), { tag: name }),
      text: "×",
    });
    return element("span", { class: "tag" }, element("a", { href: `${addresses.list}?${query}`, text: name }), remove);
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const add = field.value.split(",").filter((name) => name.trim());
    if (add.length && (await change({ add }))) field.value = "";
  });
  list.addEventListener("click", async (event) => {
    const name = event.target.closest("[data-remove]")?.dataset.remove;
    // The button with the focus was removed.
    if (name !== undefined && (await change({ remove: [name] }))) field.focus();
  });
}
