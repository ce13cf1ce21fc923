// A page that shows a secret once: select it, and copy it by a button.

import { startCopyButtons } from "./copy.js";

startCopyButtons();
document.getElementById("shown-once").select();
