// The icon of the tab: the state of the run as a shape, so that it can be told without colours, its progress as a ring
// while it is running, and another icon while a critical alert is active.

import { shareDone } from "../state/progress.js";

// More parts of a ring cannot be told apart in a tab.
const PARTS = 24;
const STROKE = 'fill="none" stroke="#fff" stroke-width="4.5" stroke-linecap="round" stroke-linejoin="round"';
const PICTURES = {
  queued: { ground: "#59636e", shape: `<path d="M16 7v9.5l6 4" ${STROKE}/>` },
  running: { ground: "#0b5fa5", shape: '<path d="M11 7v18l14-9z" fill="#fff"/>' },
  paused: { ground: "#8a5a00", shape: `<path d="M11.5 9v14M20.5 9v14" ${STROKE}/>` },
  finished: { ground: "#1a7f37", shape: `<path d="m7.5 16.5 6 6 11-13" ${STROKE}/>` },
  stopped: { ground: "#59636e", shape: '<rect x="9" y="9" width="14" height="14" fill="#fff"/>' },
  failed: { ground: "#c62828", shape: `<path d="m9 9 14 14M23 9 9 23" ${STROKE}/>` },
  lost: { ground: "#59636e", shape: `<path d="M11 11.5a5 5 0 1 1 7 4.5c-1.5.7-2 1.5-2 3M16 25v.1" ${STROKE}/>` },
};

/** Return a function that takes the alerts and the run, null if it is not loaded, and shows the right icon. */
export function tabIcon(link) {
  const usual = link?.getAttribute("href");
  return (alerts, run = null) => {
    if (!link) return;
    const isCritical = alerts.some(({ severity, state }) => severity === "critical" && state !== "cleared");
    const wanted = isCritical ? link.dataset.alert : (pictureOf(run) ?? usual);
    // Each change costs the browser a request.
    if (link.getAttribute("href") !== wanted) link.setAttribute("href", wanted);
  };
}

/** Return the address of the picture of a run, null if its state has none. */
function pictureOf(run) {
  const picture = PICTURES[run?.state];
  if (!picture) return null;
  const share = run.state === "running" ? shareDone(run) : null;
  return addressOf(picture.ground, share === null ? picture.shape : ring(Math.floor(PARTS * share)));
}

function ring(parts) {
  const circle = (more) => `<circle cx="16" cy="16" r="10" fill="none" stroke="#fff" stroke-width="6" ${more}/>`;
  const done = `pathLength="${PARTS}" stroke-dasharray="${parts} ${PARTS}" transform="rotate(-90 16 16)"`;
  return circle('stroke-opacity=".3"') + (parts ? circle(done) : "");
}

function addressOf(ground, shape) {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="${ground}"/>${shape}</svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}
