// The columns of the tables of parameters and metrics: the one of the run under the pointer is highlighted.

const TABLES = "[data-table=parameters], [data-table=metrics]";

export class RunColumns {
  #runs;
  #looks;
  // The index of the run whose column is highlighted on the page, -1 for none.
  #near = -1;

  /** `places` contain the tables, which the server renders again; `runs` are in the order of the columns. */
  constructor(places, runs, looks) {
    this.#runs = runs;
    this.#looks = looks;
    for (const place of places) {
      place.addEventListener("pointerover", ({ target }) => {
        if (target.closest(TABLES)) looks.point(this.#runOf(target));
      });
      place.addEventListener("pointerleave", () => looks.point(null));
    }
  }

  /** Highlight the column of the run under the pointer, if that is another one than before. */
  paint() {
    const near = this.#runs.findIndex(({ id }) => this.#looks.isNear(id));
    if (near === this.#near) return;
    this.#near = near;
    this.dress(document);
  }

  /** Highlight the same column as on the page in the tables below `root`. */
  dress(root) {
    for (const table of root.querySelectorAll(TABLES)) {
      for (const { cells } of table.rows) {
        // The first cell is the heading of the row.
        for (let place = 1; place < cells.length; place += 1) dressCell(cells[place], place - 1 === this.#near);
      }
    }
  }

  #runOf(node) {
    return this.#runs[node.closest("td, th")?.cellIndex - 1]?.id ?? null;
  }
}

function dressCell(cell, isNear) {
  if (cell.classList.contains("column-near") === isNear) return;
  cell.classList.toggle("column-near", isNear);
  // As the server renders it, so that a refresh leaves it as it is.
  if (!cell.classList.length) cell.removeAttribute("class");
}
