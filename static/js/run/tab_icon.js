// The icon of the tab, which changes while a critical alert is active.

/** Return a function that takes the alerts of the run and shows the right icon. */
export function tabIcon(link) {
  const usual = link?.getAttribute("href");
  return (alerts) => {
    if (!link) return;
    const isCritical = alerts.some(({ severity, state }) => severity === "critical" && state !== "cleared");
    const wanted = isCritical ? link.dataset.alert : usual;
    // Each change costs the browser a request.
    if (link.getAttribute("href") !== wanted) link.setAttribute("href", wanted);
  };
}
