// Rows of the command log keep their elements. `Fake` has what a row needs of an element.

import assert from "node:assert/strict";
import { test } from "node:test";

import { renewRow, showInOrder } from "../../static/js/panels/row.js";

let moves = 0;

class Fake {
  constructor(name, ...children) {
    this.name = name;
    this.dataset = { testid: name };
    this.childNodes = [];
    this.parent = null;
    for (const child of children) this.append(child);
  }

  get isConnected() {
    return this.name === "page" || Boolean(this.parent?.isConnected);
  }

  get lastChild() {
    return this.childNodes.at(-1);
  }

  remove() {
    this.parent.childNodes = this.parent.childNodes.filter((child) => child !== this);
    this.parent = null;
    if (!document.activeElement.isConnected) document.activeElement = null;
  }

  insertBefore(child, before) {
    moves += 1;
    if (child.parent) child.remove();
    this.childNodes.splice(before ? this.childNodes.indexOf(before) : this.childNodes.length, 0, child);
    child.parent = this;
  }

  append(child) {
    this.insertBefore(child, null);
  }

  replaceWith(other) {
    this.parent.insertBefore(other, this);
    this.remove();
  }

  contains(other) {
    return other === this || this.childNodes.some((child) => child.contains(other));
  }

  isEqualNode(other) {
    return this.name === other.name && this.childNodes.every((child, index) => child.isEqualNode(other.childNodes[index]));
  }

  querySelector(selector) {
    return this.childNodes.find(({ name }) => selector === `[data-testid="${name}"]`) ?? null;
  }

  focus() {
    document.activeElement = this;
  }
}

globalThis.document = { activeElement: null };

/** Return a page with `names` as rows, and the moves counted from here. */
function pageOf(...names) {
  const rows = names.map((name) => new Fake(name));
  const page = new Fake("page", ...rows);
  document.activeElement = page;
  moves = 0;
  return { page, rows };
}

test("a new row is inserted, one that is gone is removed, and no other is moved", () => {
  const { page, rows } = pageOf("c", "b", "a");
  const added = new Fake("d");
  showInOrder(page, [added, ...rows.slice(0, 2)]);
  assert.deepEqual(page.childNodes, [added, rows[0], rows[1]]);
  assert.equal(moves, 1);
  showInOrder(page, [added, rows[0], rows[1]]);
  assert.equal(moves, 1);
});

test("a changed row keeps its element, its equal parts and the focus in them", () => {
  const row = new Fake("row", new Fake("sent"), new Fake("cancel"));
  new Fake("page", row);
  const cancel = row.childNodes[1];
  cancel.focus();
  renewRow(row, new Fake("row", new Fake("delivered"), new Fake("cancel")));
  assert.deepEqual(row.childNodes.map(({ name }) => name), ["delivered", "cancel"]);
  assert.equal(row.childNodes[1], cancel);
  assert.equal(document.activeElement, cancel);
});

test("the focus of a part that is gone moves to its successor, or to the row", () => {
  const row = new Fake("row", new Fake("text"), new Fake("cancel", new Fake("old")));
  new Fake("page", row);
  row.childNodes[1].focus();
  renewRow(row, new Fake("row", new Fake("text"), new Fake("cancel", new Fake("new"))));
  assert.equal(document.activeElement, row.childNodes[1]);
  renewRow(row, new Fake("row", new Fake("text")));
  assert.equal(document.activeElement, row);
  assert.equal(row.childNodes.length, 1);
});
