// A page with lines to copy.

import { startCopyButtons } from "../shared/clipboard.js";

startCopyButtons();
