// The parts of every page: theme button, menu, times, shortcuts and their help.

import { toast } from "./dom.js";
import { fill, gettext } from "./i18n.js";
import { showMoments, tellZone } from "./moments.js";
import { openSheet, shortcut, startShortcuts } from "./shortcuts.js";

const THEMES = ["light", "dark", "auto"];
const THEME_TEXTS = { light: gettext("light"), dark: gettext("dark"), auto: gettext("automatic") };

function nextTheme() {
  const now = document.documentElement.dataset.themeChoice;
  const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
  window.dispatchEvent(new CustomEvent("themechoice", { detail: next }));
  toast(fill(gettext("Theme: {theme}"), { theme: THEME_TEXTS[next] }), "info", "theme");
}

for (const button of document.querySelectorAll("[data-theme-toggle]")) button.addEventListener("click", nextTheme);
for (const button of document.querySelectorAll("[data-shortcuts]")) {
  button.addEventListener("click", () => openSheet(document.getElementById("shortcuts")));
}
for (const sheet of document.querySelectorAll("dialog.sheet")) {
  sheet.addEventListener("click", (event) => {
    if (event.target === sheet || event.target.closest("[data-close]")) sheet.close();
  });
}
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]"))
    if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

showMoments(document);
tellZone();

shortcut("?", () => openSheet(document.getElementById("shortcuts")));
shortcut("t", nextTheme);
shortcut("g", () => {
  const runs = document.querySelector(".top-nav a, .brand");
  if (runs) window.location.assign(runs.href);
});
startShortcuts();
