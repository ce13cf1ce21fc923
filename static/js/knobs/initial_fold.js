// Runs before the first paint, so that nothing jumps: restores whether the knobs are open, separately for wide screens,
// with knobs beside the charts, and for others, with knobs above them. A classic script in the head.
(function applyKnobFold() {
  const beside = window.matchMedia("(min-width: 1200px)");
  const root = document.documentElement;
  const chosen = {};

  function apply() {
    const store = beside.matches ? "steersman-knobs-beside" : "steersman-knobs-above";
    try {
      chosen[store] = localStorage.getItem(store) ?? chosen[store];
    } catch {
      // storage is switched off: the choice lasts for the page
    }
    root.dataset.knobs = chosen[store] ?? (beside.matches ? "open" : "folded");
    window.dispatchEvent(new Event("knobschange"));
  }

  beside.addEventListener("change", apply);
  window.addEventListener("knobschoice", (event) => {
    const store = beside.matches ? "steersman-knobs-beside" : "steersman-knobs-above";
    chosen[store] = event.detail;
    try {
      localStorage.setItem(store, event.detail);
    } catch {
      // as above
    }
    apply();
  });
  apply();
})();
