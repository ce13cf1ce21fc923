// Runs before the first paint, so that a chosen theme does not flash: a classic script in the head.
(function applyTheme() {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;

  function chosen() {
    try {
      const theme = localStorage.getItem("steersman-theme");
      return theme === "light" || theme === "dark" ? theme : "auto";
    } catch {
      return root.dataset.themeChoice ?? "auto"; // storage is switched off: the choice lasts for the page
    }
  }

  function apply() {
    const theme = chosen();
    root.dataset.themeChoice = theme;
    root.dataset.bsTheme = theme === "auto" ? (dark.matches ? "dark" : "light") : theme;
    window.dispatchEvent(new Event("themechange"));
  }

  dark.addEventListener("change", apply);
  window.addEventListener("storage", apply);
  window.addEventListener("themechoice", (event) => {
    try {
      localStorage.setItem("steersman-theme", event.detail);
    } catch {
      root.dataset.themeChoice = event.detail;
    }
    apply();
  });
  apply();
})();
