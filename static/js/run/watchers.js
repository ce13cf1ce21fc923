// The people who watch the run: their number, and for members their names.

import { element, setText } from "../shared/dom.js";
import { fill, gettext } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";
import { watcherLines } from "./watchers_text.js";

export class Watchers {
  #state;
  #part = document.getElementById("watchers");
  #changed = changeDetector();

  constructor(state) {
    this.#state = state;
  }

  paint() {
    const { watchers } = this.#state;
    if (!this.#changed(watchers)) return;
    this.#part.hidden = !watchers?.count;
    if (this.#part.hidden) return;
    setText(this.#part.querySelector("[data-slot=text]"), fill(gettext("{count} watching"), { count: watchers.count }));
    // The page of a share link has no list.
    const list = this.#part.querySelector("[data-slot=names]");
    list?.replaceChildren(...watcherLines(watchers).map((text) => element("li", { text })));
  }
}
