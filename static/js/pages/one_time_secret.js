// A page that shows a secret once: selects it, and copies it on request.

import { startCopyButtons } from "../shared/clipboard.js";

startCopyButtons();
document.getElementById("shown-once").select();
