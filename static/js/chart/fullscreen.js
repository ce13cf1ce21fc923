// Shows a chart on the whole screen, in a dialog, which keeps the focus inside and restores it when it closes.

import { element } from "../shared/dom.js";

/**
 * Show only `root` until it is closed; `onChange(isFull)` is called at the beginning and at the end.
 *
 * If the browser does not support full screen (phones), the dialog fills the window.
 */
export async function showFullscreen(root, label, onChange) {
  const place = element("div");
  const dialog = element("dialog", { class: "chart-dialog", "aria-label": label });
  const page = document.documentElement;
  document.body.append(dialog);
  // Requested before the dialog opens, because the later one is on top.
  try {
    await page.requestFullscreen?.();
  } catch {
    // refused: the dialog fills the window
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
