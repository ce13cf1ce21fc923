// Whether a button or link is being pressed. If its element were replaced before the release, there would be no click.

// A release may be missed, such as one outside of the window.
const LONGEST_MS = 5000;
const PRESSED = "a, button, summary, label";

let pressedAt = -Infinity;

/** Follow the presses on a page. Call once. */
export function watchPresses(root) {
  root.addEventListener(
    "pointerdown",
    (event) => {
      if (event.target.closest?.(PRESSED)) pressedAt = performance.now();
    },
    true,
  );
  // The click follows the release in the same task.
  const release = () => setTimeout(() => (pressedAt = -Infinity));
  for (const kind of ["pointerup", "pointercancel"]) root.addEventListener(kind, release, true);
}

export function isPressing() {
  return performance.now() - pressedAt < LONGEST_MS;
}

/** Wait until nothing is being pressed. */
export async function untilReleased() {
  while (isPressing()) await new Promise((resolve) => setTimeout(resolve, 50));
}
