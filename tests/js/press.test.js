import assert from "node:assert/strict";
import { test } from "node:test";
import { isPressing, Painter, untilReleased, watchPresses } from "../../static/js/shared/painter.js";

/** An event on an element that is, or is not, part of something that can be pressed. */
function pointer(kind, isControl) {
  const event = new Event(kind);
  Object.defineProperty(event, "target", { value: { closest: () => (isControl ? {} : null) } });
  return event;
}

test("nothing is painted from the press of a button to its click", async () => {
  const root = new EventTarget();
  watchPresses(root);
  let frame = null;
  globalThis.requestAnimationFrame = (paint) => {
    frame = paint;
    return 1;
  };
  /** Run the next frame, when the painter asks for one. */
  const nextFrame = async () => {
    while (!frame) await new Promise((resolve) => setTimeout(resolve, 1));
    const paint = frame;
    frame = null;
    paint(performance.now());
  };
  const painter = new Painter(isPressing);
  let painted = 0;
  painter.add(() => (painted += 1));

  root.dispatchEvent(pointer("pointerdown", false));
  painter.request();
  await nextFrame();
  assert.equal(painted, 1);

  root.dispatchEvent(pointer("pointerdown", true));
  painter.request();
  await nextFrame();
  await nextFrame();
  assert.equal(painted, 1);
  root.dispatchEvent(pointer("pointerup", true));
  // The click is handled in the same task.
  assert.ok(isPressing());
  await untilReleased();
  await nextFrame();
  assert.equal(painted, 2);
});
