// The sheet for a branch, or for running a run again. It shows the form of that page, which also works alone.

import { element, toast } from "../shared/dom.js";
import { HttpError, NoAnswer } from "../shared/http.js";
import { gettext } from "../shared/i18n.js";
import { openSheet } from "../shared/shortcuts.js";

const FORM = "form.branch-form";

export class BranchSheet {
  #dialog = element("dialog", {
    class: "sheet branch-sheet",
    id: "branch-sheet",
    "data-testid": "branch-sheet",
    "aria-labelledby": "branch-sheet-title",
  });
  #title = element("h2", { id: "branch-sheet-title" });
  #body = element("div", {});
  #isAsked = false;

  constructor() {
    const close = element("button", { class: "btn btn-sm", type: "button", text: gettext("Cancel") });
    close.addEventListener("click", () => this.#dialog.close());
    this.#dialog.append(element("div", { class: "sheet-head" }, this.#title, close), this.#body);
    document.body.append(this.#dialog);
    document.addEventListener("click", (event) => this.#open(event));
    this.#dialog.addEventListener("submit", (event) => this.#send(event));
  }

  async #open(event) {
    const link = event.target.closest?.("a[data-branch]");
    // Opened in another tab or window, the link leads to the page.
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    await this.#ask(link.href, {});
  }

  async #send(event) {
    event.preventDefault();
    const form = event.target;
    const given = new FormData(form, event.submitter);
    for (const button of form.querySelectorAll("button")) button.ariaDisabled = "true";
    await this.#ask(form.action, { method: "POST", body: given });
    for (const button of form.querySelectorAll("button")) button.ariaDisabled = null;
  }

  /** Send a request to the server, which answers with the form, or redirects to the opened branch. */
  async #ask(address, options) {
    if (this.#isAsked) return;
    this.#isAsked = true;
    try {
      const answer = await fetch(address, { credentials: "same-origin", ...options });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const form = page.querySelector(FORM);
      if (form) this.#show(form);
      else if (answer.ok) window.location.assign(answer.url);
      else toast(page.querySelector("main p.text-secondary")?.textContent ?? new HttpError(answer.status).message, "danger");
    } catch {
      toast(new NoAnswer().message, "danger");
    } finally {
      this.#isAsked = false;
    }
  }

  #show(form) {
    this.#title.textContent = form.dataset.title ?? gettext("Branch");
    this.#body.replaceChildren(document.adoptNode(form));
    if (!this.#dialog.open) openSheet(this.#dialog);
    (form.querySelector(".has-error input, .has-error select") ?? form.querySelector("[name=name]"))?.focus();
  }
}
