// The page that shows an invite link once: select it, and copy it by a button.

import { startCopyButtons } from "./copy.js";

startCopyButtons();
document.getElementById("invite-link").select();
