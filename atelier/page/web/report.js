// Sort a table by the column whose heading is pressed: numbers by value, other texts by letters, empty cells last.
"use strict";

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  for (const button of table.tHead.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      const heading = button.parentElement;
      const falling = heading.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const text = (row) => row.cells[heading.cellIndex].textContent.trim();
      const compare = (one, other) => {
        if (!one || !other) return !one - !other;
        const difference = Number(one) - Number(other);
        return (Number.isNaN(difference) ? one.localeCompare(other, "en") : difference) * (falling ? -1 : 1);
      };
      body.append(...[...body.rows].sort((a, b) => compare(text(a), text(b))));
    });
  }
}
