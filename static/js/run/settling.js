const LONGEST_MS = 10_000;
const BY_THE_READER = ["wheel", "touchstart", "pointerdown", "keydown"];

/**
 * Scroll to an element, and again whenever the page changes its height, so that parts which are painted later above it
 * do not push it away. This ends at the reader's first action, at the latest after ten seconds.
 */
export function settleAt(element) {
  const observer = new ResizeObserver(() => element.scrollIntoView({ block: "start" }));
  const end = () => {
    observer.disconnect();
    for (const kind of BY_THE_READER) window.removeEventListener(kind, end);
  };
  for (const kind of BY_THE_READER) window.addEventListener(kind, end, { passive: true });
  setTimeout(end, LONGEST_MS);
  observer.observe(document.body);
}
