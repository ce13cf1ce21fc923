// One chart on the whole screen, in a dialog: it keeps the focus inside and gives it back at the end.

import { element } from "../shared/dom.js";

/**
 * Show `root` alone until it is closed; `onChange(isFull)` is called at both ends.
 *
 * If the browser has no full screen (phones), the dialog fills the window.
 */
export async function showFullscreen(root, label, onChange) {
  const place = element("div");
  const dialog = element("dialog", { class: "chart-dialog", "aria-label": label });
  const page = document.documentElement;
  document.body.append(dialog);
  // Asked before the dialog opens: what comes later lies on top.
  try {
    await page.requestFullscreen?.();
  } catch {
    // refused: the window is enough
  }
  root.replaceWith(place);
  dialog.append(root);
  dialog.showModal();
  onChange(true);
  const left = () => {
    if (!document.fullscreenElement) dialog.close();
  };
  document.addEventListener("fullscreenchange", left);
  dialog.addEventListener("close", () => {
    document.removeEventListener("fullscreenchange", left);
    place.replaceWith(root);
    dialog.remove();
    onChange(false);
    root.querySelector("[data-full]").focus();
    if (document.fullscreenElement) document.exitFullscreen();
  });
}
