// Texts of the training, such as samples of a language model: newest first, as text and never as markup.

import { element } from "../shared/dom.js";
import { fill, gettext } from "../shared/i18n.js";
import { momentElement } from "../shared/moments.js";
import { changeDetector } from "../shared/painter.js";

export class TextSamples {
  #state;
  #section = document.getElementById("texts");
  #list = document.getElementById("text-list");
  #nodes = new Map();
  #changed = changeDetector();

  constructor(state) {
    this.#state = state;
  }

  paint() {
    if (!this.#changed(this.#state.versions.texts)) return;
    const { texts } = this.#state;
    this.#section.hidden = !texts.length;
    const shown = new Set(texts.map((text) => text.seq));
    for (const [seq, node] of this.#nodes) {
      if (shown.has(seq)) continue;
      node.remove();
      this.#nodes.delete(seq);
    }
    // Existing entries are not touched, which keeps a reader's selection and scroll position.
    for (const text of texts) {
      if (this.#nodes.has(text.seq)) continue;
      const node = sample(text);
      this.#nodes.set(text.seq, node);
      this.#list.prepend(node);
    }
  }
}

function sample({ name, step, epoch, text, at }) {
  const epochText = epoch === null || epoch === undefined ? "" : fill(gettext("epoch {x}"), { x: epoch });
  const where = [epochText, fill(gettext("step {x}"), { x: step })].filter(Boolean).join(" · ");
  return element(
    "li",
    { class: "sample", "data-testid": "text" },
    element(
      "div",
      { class: "sample-head" },
      element("h3", { text: name }),
      element("span", { class: "sample-where" }, ...(at ? [`${where} · `, momentElement(at)] : [where])),
    ),
    element("pre", { class: "sample-text", text }),
  );
}
