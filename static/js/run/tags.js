// The tags beside the title of a run, which change on all open pages. People who may change them add some by Enter, with
// commas between several, and remove one by its ×.

import { element, toast } from "../shared/dom.js";
import { postJson } from "../shared/http.js";
import { fill, gettext } from "../shared/i18n.js";

/**
 * `addresses` are those of the page: `tags` takes changes, `list` is the list of runs. Returns the function that shows
 * tags; without a `place`, as for guests, it shows nothing.
 */
export function startTags(place, addresses) {
  if (!place) return () => {};
  const form = place.querySelector("form");
  const list = place.querySelector("[data-slot=list]");
  const field = form?.elements.tag;
  // Until the listener below exists, Enter would load the page again.
  if (field) field.disabled = false;

  function show(tags) {
    const shown = [...list.children].map((tag) => tag.dataset.tag);
    // A button that is replaced would lose the focus.
    if (String(shown) === String(tags)) return;
    const focused = document.activeElement?.dataset.remove;
    list.replaceChildren(...tags.map(chip));
    if (focused) list.querySelector(`[data-remove="${CSS.escape(focused)}"]`)?.focus();
    place.closest(".notice-line")?.classList.toggle("notice-line-bare", !tags.length && !form);
  }

  async function change(changes) {
    try {
      const { tags } = await postJson(addresses.tags, changes, addresses.login);
      show(tags);
      return true;
    } catch (error) {
      toast(error.message, "danger", "tags");
      return false;
    }
  }

  function chip(name) {
    const query = new URLSearchParams({ q: `tag = "${name}"` });
    const link = element("a", { href: `${addresses.list}?${query}`, text: name });
    if (!form) return element("span", { class: "tag", "data-tag": name }, link);
    const remove = element("button", {
      type: "button",
      "data-remove": name,
      "aria-label": fill(gettext("Remove the tag {tag}"), { tag: name }),
      text: "×",
    });
    return element("span", { class: "tag", "data-tag": name }, link, remove);
  }

  form?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const add = field.value.split(",").filter((name) => name.trim());
    if (add.length && (await change({ add }))) field.value = "";
  });
  list.addEventListener("click", async (event) => {
    const name = event.target.closest("[data-remove]")?.dataset.remove;
    // The button with the focus was removed.
    if (name !== undefined && (await change({ remove: [name] }))) field.focus();
  });

  return show;
}
