// The colours of terminal text on the console, which is dark in both themes. Text stays readable: a colour with too
// little contrast is left out. Pure.

const LOWEST_CONTRAST = 4.5;
// Text and ground of the console in the light and in the dark theme, as in static/css/portal.css.
export const DEFAULTS = [
  ["#d5dee8", "#0f1823"],
  ["#ccd7e3", "#0a1119"],
];
// The names are colours for a light page: on the console they are lighter as text, as in static/css/run.css, and darker
// as a ground.
export const TEXTS = {
  black: "#8b99a8",
  red: "#ff9d8a",
  green: "#6fdc9c",
  yellow: "#f5c04d",
  blue: "#8cc0ff",
  magenta: "#e6a5e0",
  cyan: "#6fd6dc",
  white: "#ffffff",
  "bright-black": "#a5b1be",
  "bright-red": "#ffb8aa",
  "bright-green": "#97efba",
  "bright-yellow": "#ffdb85",
  "bright-blue": "#b3d6ff",
  "bright-magenta": "#f5c6f1",
  "bright-cyan": "#9cecf0",
  "bright-white": "#ffffff",
};
const GROUNDS = {
  black: "#000000",
  red: "#7d1f17",
  green: "#11532b",
  yellow: "#5e4300",
  blue: "#123f7c",
  magenta: "#65205f",
  cyan: "#0c4f55",
  white: "#475463",
  "bright-black": "#2c3947",
  "bright-red": "#932a20",
  "bright-green": "#186236",
  "bright-yellow": "#6b4f06",
  "bright-blue": "#1b4f96",
  "bright-magenta": "#7a2c73",
  "bright-cyan": "#115d64",
  "bright-white": "#4f5d6d",
};
const DIM_SHARE = 0.65;

/**
 * Return {name, colour, ground} for a piece of terminal text: the name of one of the 16 colours on the default ground,
 * or colours as "#rrggbb"; "" stands for the default.
 */
export function coloursOf({ colour, ground, isDim }) {
  if (!colour && !ground && !isDim) return { name: "", colour: "", ground: "" };
  const under = GROUNDS[ground] ?? ground;
  const text = TEXTS[colour] ?? colour;
  const attempts = [[text, under], ["", under], [text, ""], ["", ""]];
  const [front, back] = attempts.find(([one, other]) => isReadable(one, other));
  const dimmed = isDim ? dim(front, back) : "";
  if (dimmed) return { name: "", colour: dimmed, ground: back };
  if (back) return { name: "", colour: front || DEFAULTS[0][0], ground: back };
  return front && front === TEXTS[colour] ? { name: colour, colour: "", ground: "" } : { name: "", colour: front, ground: "" };
}

/** Return the colour mixed with its ground, "" if it could not be read. */
function dim(front, back) {
  const [text, under] = DEFAULTS[0];
  const mixed = mix(front || text, back || under);
  return isReadable(mixed, back) ? mixed : "";
}

function isReadable(front, back) {
  return DEFAULTS.every(([text, under]) => contrast(front || text, back || under) >= LOWEST_CONTRAST);
}

/** Return the contrast of two colours by the definition of WCAG. */
export function contrast(one, other) {
  const [darker, lighter] = [luminance(one), luminance(other)].sort((left, right) => left - right);
  return (lighter + 0.05) / (darker + 0.05);
}

function luminance(colour) {
  const [red, green, blue] = channelsOf(colour).map((channel) => {
    const share = channel / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function mix(front, back) {
  const under = channelsOf(back);
  const mixed = channelsOf(front).map((channel, place) => Math.round(DIM_SHARE * channel + (1 - DIM_SHARE) * under[place]));
  return `#${mixed.map((channel) => channel.toString(16).padStart(2, "0")).join("")}`;
}

function channelsOf(colour) {
  return [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
}
