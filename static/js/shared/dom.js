// Creates and changes elements. Data is inserted as text, never as markup; `nodesOf` takes HTML of the portal.

const SVG = "http://www.w3.org/2000/svg";

/** Return a new element. `options`: class, text, and attributes; null and false omit an attribute. */
export function element(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "text") node.textContent = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Return a new SVG element with `attributes`. */
export function svgElement(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Return the nodes of HTML that the portal has made and cleaned: it holds no script, no style and no picture. */
export function nodesOf(html) {
  return new DOMParser().parseFromString(html, "text/html").body.childNodes;
}

/** Return an icon of the page's sprite. */
export function icon(name, className = "icon") {
  if (!document.getElementById(`i-${name}`)) console.error(`There is no picture #i-${name} in icons.html.`);
  return svgElement("svg", { class: className, "aria-hidden": "true" }, svgElement("use", { href: `#i-${name}` }));
}

/**
 * Set text only if it changed: an unchanged node costs no layout and keeps a selection. A text node that is there is
 * changed, because a new one would make the browser recalculate styles before it draws the next canvas.
 */
export function setText(node, text) {
  if (node.textContent === text) return;
  const first = node.firstChild;
  if (text && first?.nodeType === Node.TEXT_NODE && first === node.lastChild) first.data = text;
  else node.textContent = text;
}

/** Set strings and nodes as the content only if its text changes. */
export function setContent(node, ...parts) {
  if (node.textContent !== parts.map((part) => part.textContent ?? part).join("")) node.replaceChildren(...parts);
}

/** Return the parts of a text whose `{name}` placeholders are strings or nodes. */
export function partsOf(text, values) {
  return text.split(/\{(\w+)\}/).map((part, place) => (place % 2 ? values[part] : part));
}

/** Hide or show a node. Unlike an assignment, this costs nothing if it is so already. */
export function setHidden(node, isHidden) {
  if (node.hidden !== isHidden) node.hidden = isHidden;
}

/** Show a message that disappears by itself, replacing one with the same `subject`. `tone`: info or danger. */
export function toast(text, tone = "info", subject = "") {
  const place = document.getElementById("toasts");
  const note = element("div", { class: `toast-note toast-${tone}`, "data-subject": subject, text });
  if (subject) for (const old of place.querySelectorAll(`[data-subject="${subject}"]`)) old.remove();
  place.append(note);
  setTimeout(() => note.remove(), 6000);
}

/** Close `menu` on Escape and on a click elsewhere. */
export function closesByItself(menu) {
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  document.addEventListener("click", (event) => {
    if (menu.open && !menu.contains(event.target)) menu.open = false;
  });
}
