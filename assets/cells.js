// Cells of a heat map made by demos/contrast/drawings.py: a click, or Enter on a focused one, selects it.
const chosen = (event) => event.target.closest && event.target.closest("[data-cell]");
const select = (cell) => trigger("select", { index: cell.dataset.cell.split(" ").map(Number), value: null });
element.addEventListener("click", (event) => { const cell = chosen(event); if (cell) select(cell); });
element.addEventListener("keydown", (event) => {
  const cell = chosen(event);
  if (cell && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); select(cell); }
});
