// What people write about a run: name, description, tags and review, as they are now, and the sheet that changes them.

import { element, nodesOf, partsOf, setContent, setText, toast } from "../shared/dom.js";
import { postJson } from "../shared/http.js";
import { gettext } from "../shared/i18n.js";
import { momentElement } from "../shared/moments.js";
import { changeDetector } from "../shared/painter.js";
import { openSheet } from "../shared/shortcuts.js";

export class About {
  #state;
  #addresses;
  #showTags;
  #parts = {};
  // The note of the review when the sheet was opened.
  #reviewBefore = "";
  #changed = changeDetector();

  /** `showTags(tags)` draws the tags beside the title. */
  constructor(state, page, showTags) {
    this.#state = state;
    this.#addresses = page.addresses;
    this.#showTags = showTags;
    for (const id of ["about", "about-dialog", "run-menu", "archived", "delete-dialog"])
      this.#parts[id] = document.getElementById(id);
    this.#listen(page.run);
  }

  paint() {
    const { about, versions } = this.#state;
    if (!about || !this.#changed(versions.details)) return;
    const name = document.querySelector("#run h1 [data-slot=name]");
    setText(name, about.name);
    name.parentElement.title = `${about.name} ${document.querySelector(".run-number").textContent}`;
    this.#showTags(about.tags);
    this.#parts.archived.hidden = !about.archived;
    for (const button of document.querySelectorAll("[data-archive]"))
      button.hidden = (button.dataset.archive === "archive") === about.archived;
    this.#paintTexts(about);
  }

  #paintTexts({ html, review }) {
    const { about: card } = this.#parts;
    const slot = (what) => card.querySelector(`[data-slot=${what}]`);
    slot("description").replaceChildren(...nodesOf(html));
    slot("no-description").hidden = Boolean(html);
    slot("review").hidden = !review;
    if (review) {
      setContent(slot("reviewed"), ...reviewedParts(review));
      slot("review-note").replaceChildren(...nodesOf(review.html));
    }
    // People who may describe it are invited to.
    card.hidden = !html && !review && !this.#parts["about-dialog"];
  }

  #listen(run) {
    const { "about-dialog": sheet, "delete-dialog": deletion, "run-menu": menu } = this.#parts;
    for (const button of document.querySelectorAll("[data-edit-about]"))
      button.addEventListener("click", () => {
        menu.open = false;
        this.#edit(sheet, button.dataset.editAbout);
      });
    for (const button of document.querySelectorAll("[data-archive]"))
      button.addEventListener("click", () => {
        menu.open = false;
        this.#change(run, button.dataset.archive);
      });
    sheet?.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#save(sheet);
    });
    document.querySelector("[data-delete-run]")?.addEventListener("click", () => {
      menu.open = false;
      openSheet(deletion);
    });
    deletion?.addEventListener("close", async () => {
      const isSure = deletion.returnValue === "send";
      deletion.returnValue = "";
      if (isSure && (await this.#change(run, "delete"))) window.location.assign(this.#addresses.list);
    });
  }

  #edit(sheet, field) {
    const { elements } = sheet.querySelector("form");
    elements.name.value = this.#state.about?.name ?? elements.name.defaultValue;
    elements.description.value = this.#state.about?.description ?? elements.description.defaultValue;
    this.#reviewBefore = elements.review.value = this.#state.about?.review?.note ?? (this.#state.about ? "" : elements.review.defaultValue);
    this.#refuse(sheet, "");
    openSheet(sheet);
    elements[field].focus();
  }

  /** A refusal is shown in the sheet, which stays open with what was typed. */
  async #save(sheet) {
    const { name, description, review } = sheet.querySelector("form").elements;
    try {
      const body = { name: name.value, description: description.value };
      // Otherwise somebody else's newer review would be overwritten by a change of the description.
      if (review.value !== this.#reviewBefore) body.review = review.value;
      this.#state.about = await postJson(this.#addresses.about, body, this.#addresses.login);
      this.#state.versions.details += 1;
      sheet.close();
    } catch (error) {
      this.#refuse(sheet, error.message);
    }
  }

  #refuse(sheet, sentence) {
    const place = sheet.querySelector("[data-slot=refused]");
    place.hidden = !sentence;
    setText(place, sentence);
  }

  /** Archive or delete the run, or take it out of the archive; return whether that was done. */
  async #change(run, action) {
    try {
      const answer = await postJson(this.#addresses.several, { runs: [run], action }, this.#addresses.login);
      for (const { why } of answer.left_out) toast(why, "danger", "about");
      return answer.done.length > 0;
    } catch (error) {
      toast(error.message, "danger", "about");
      return false;
    }
  }
}

function reviewedParts({ by, at }) {
  if (!at) return [];
  const when = momentElement(at);
  return by ? partsOf(gettext("by {name}, {when}"), { name: by, when }) : [when];
}
