// Single-key shortcuts, which are off while a person types or a dialog is open.

const actions = new Map();

/** Register a key. Throws if it is already registered. */
export function shortcut(key, action) {
  if (actions.has(key)) throw new Error(`the key ${key} is taken`);
  actions.set(key, action);
}

export function startShortcuts() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target.closest?.("input, textarea, select, [contenteditable]")) return;
    if (document.querySelector("dialog[open]")) return;
    const action = actions.get(event.key);
    if (!action) return;
    event.preventDefault();
    action(event);
  });
}

/** Open a modal dialog; the browser keeps the focus inside and restores it at the end. */
export function openSheet(sheet) {
  if (sheet && !sheet.open) sheet.showModal();
}
