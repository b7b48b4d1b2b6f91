// A patch under the pointer, or chosen with the arrow keys, is marked in every picture of its tab that has the same
// patches. `.patches` (demos/ui/drawing.py: patches) says how many there are, and in which pictures.
() => {
  const notes = () => [...document.querySelectorAll(".patches")].filter((note) => note.offsetParent);
  const pictures = (note) => note.dataset.of.split(" ").map((id) => document.querySelector(`#${id} img`)).filter((img) => img?.offsetParent);
  // Where a picture's pixels lie in its element, which may be wider or higher than they are.
  const inside = (img) => {
    const box = img.getBoundingClientRect(), scale = Math.min(box.width / img.naturalWidth, box.height / img.naturalHeight);
    const [width, height] = [img.naturalWidth * scale, img.naturalHeight * scale];
    return { left: box.left + (box.width - width) / 2, top: box.top + (box.height - height) / 2, width, height };
  };
  const clear = () => document.querySelectorAll(".patch-mark").forEach((mark) => mark.remove());
  const mark = (note, row, column) => {
    clear();
    const [rows, columns] = note.dataset.grid.split(" ").map(Number);
    for (const img of pictures(note)) {
      const holder = img.parentElement, origin = holder.getBoundingClientRect(), at = inside(img);
      if (getComputedStyle(holder).position === "static") holder.style.position = "relative";
      const made = holder.appendChild(document.createElement("i"));
      made.className = "patch-mark";
      made.style.left = `${at.left - origin.left + (column * at.width) / columns}px`;
      made.style.top = `${at.top - origin.top + (row * at.height) / rows}px`;
      made.style.width = `${at.width / columns}px`;
      made.style.height = `${at.height / rows}px`;
    }
  };
  document.addEventListener("pointermove", (event) => {
    const img = event.target.closest?.("img") || event.target.querySelector?.(":scope > img");
    const note = img && notes().find((each) => pictures(each).includes(img));
    if (!note) return clear();
    const [rows, columns] = note.dataset.grid.split(" ").map(Number), at = inside(img);
    const [row, column] = [((event.clientY - at.top) / at.height) * rows, ((event.clientX - at.left) / at.width) * columns];
    if (row >= 0 && row < rows && column >= 0 && column < columns) mark(note, Math.floor(row), Math.floor(column));
    else clear();
  });
  const place = (note) => (note.dataset.place || "0 0").split(" ").map(Number);
  const show = (note) => {
    const [row, column] = place(note);
    mark(note, row, column);
    note.querySelector("b").textContent = `${row + 1}, ${column + 1}`;
  };
  document.addEventListener("focusin", (event) => event.target.matches(".patches") && show(event.target));
  document.addEventListener("focusout", (event) => event.target.matches(".patches") && clear());
  document.addEventListener("keydown", (event) => {
    const note = event.target, step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!note.matches?.(".patches") || !(step || event.key === "Enter")) return;
    event.preventDefault();
    const ends = note.dataset.grid.split(" ").map(Number), [row, column] = place(note);
    if (step) {
      const next = [row + step[0], column + step[1]].map((each, i) => Math.min(Math.max(each, 0), ends[i] - 1));
      note.dataset.place = next.join(" ");
      return show(note);
    }
    for (const img of pictures(note)) { // as a click there: the picture that takes clicks hears it
      const at = inside(img);
      const [x, y] = [at.left + ((column + 0.5) * at.width) / ends[1], at.top + ((row + 0.5) * at.height) / ends[0]];
      img.dispatchEvent(new MouseEvent("click", { clientX: x, clientY: y, bubbles: true }));
    }
  });
}
