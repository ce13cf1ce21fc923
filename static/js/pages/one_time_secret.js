// A page that shows a secret once: select it, and copy it by a button.

import { startCopyButtons } from "../shared/clipboard.js";

startCopyButtons();
document.getElementById("shown-once").select();
