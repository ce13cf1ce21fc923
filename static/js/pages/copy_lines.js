// A page with texts to copy.

import { startCopyButtons } from "../shared/clipboard.js";

startCopyButtons();
