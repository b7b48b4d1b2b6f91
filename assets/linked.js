// What belongs together is marked in all parts of a tab (demos/ui/links.py).
// Patches: one under the pointer, or chosen with the arrow keys, in every picture that has the same ones; `.patches`
// says how many there are, and in which pictures. Words: a row of a table or chart with `data-word`, with the other rows
// of this word and with its boxes, `data-boxes`, in the pictures `data-of`; and the row of a box under the pointer.
() => {
  const seen = (selector) => [...document.querySelectorAll(selector)].filter((part) => part.offsetParent);
  const ids = (part) => (part.dataset.of || "").split(" ").filter(Boolean);
  const pictures = (part) => ids(part).map((id) => document.querySelector(`#${id} img`)).filter((img) => img?.offsetParent);
  const boxes = (row) => (row.dataset.boxes || "").split(";").filter(Boolean).map((box) => box.split(" ").map(Number));
  // Where a picture's pixels lie in its element, which may be wider or higher than they are.
  const inside = (img) => {
    const box = img.getBoundingClientRect(), scale = Math.min(box.width / img.naturalWidth, box.height / img.naturalHeight);
    const [width, height] = [img.naturalWidth * scale, img.naturalHeight * scale];
    return { left: box.left + (box.width - width) / 2, top: box.top + (box.height - height) / 2, width, height };
  };
  const clear = () => {
    document.querySelectorAll(".patch-mark").forEach((mark) => mark.remove());
    document.querySelectorAll(".linked").forEach((row) => row.classList.remove("linked"));
  };
  const frame = (img, [left, top, right, bottom]) => { // shares of the picture's sides
    const holder = img.parentElement, origin = holder.getBoundingClientRect(), at = inside(img);
    if (getComputedStyle(holder).position === "static") holder.style.position = "relative";
    const made = holder.appendChild(document.createElement("i"));
    made.className = "patch-mark";
    made.style.left = `${at.left - origin.left + left * at.width}px`;
    made.style.top = `${at.top - origin.top + top * at.height}px`;
    made.style.width = `${(right - left) * at.width}px`;
    made.style.height = `${(bottom - top) * at.height}px`;
  };
  const mark = (note, row, column) => {
    clear();
    const [rows, columns] = note.dataset.grid.split(" ").map(Number);
    const cell = [column / columns, row / rows, (column + 1) / columns, (row + 1) / rows];
    for (const img of pictures(note)) frame(img, cell);
  };
  const tie = (row) => {
    clear();
    const together = seen("[data-word]").filter((each) => each.dataset.word === row.dataset.word);
    together.forEach((each) => each.classList.add("linked"));
    for (const each of row.dataset.boxes ? [row] : together)
      for (const img of pictures(each)) boxes(each).forEach((box) => frame(img, box));
  };
  const around = (img, x, y) => { // the row of the smallest box around a point
    const size = ([left, top, right, bottom]) => (right - left) * (bottom - top);
    const rows = seen("[data-boxes]").filter((row) => pictures(row).includes(img));
    return rows
      .flatMap((row) => boxes(row).map((box) => ({ row, box })))
      .filter(({ box: [left, top, right, bottom] }) => x >= left && x <= right && y >= top && y <= bottom)
      .sort((a, b) => size(a.box) - size(b.box))[0]?.row;
  };
  document.addEventListener("pointermove", (event) => {
    const row = event.target.closest?.("[data-word]");
    if (row) return tie(row);
    const img = event.target.closest?.("img") || event.target.querySelector?.(":scope > img");
    if (!img) return clear();
    const at = inside(img), [x, y] = [(event.clientX - at.left) / at.width, (event.clientY - at.top) / at.height];
    const boxed = around(img, x, y), note = seen(".patches").find((each) => pictures(each).includes(img));
    if (boxed) return tie(boxed);
    if (!note || !(x >= 0 && x < 1 && y >= 0 && y < 1)) return clear();
    const [rows, columns] = note.dataset.grid.split(" ").map(Number);
    mark(note, Math.floor(y * rows), Math.floor(x * columns));
  });
  const place = (note) => (note.dataset.place || "0 0").split(" ").map(Number);
  const show = (note) => {
    const [row, column] = place(note);
    mark(note, row, column);
    note.querySelector("b").textContent = `${row + 1}, ${column + 1}`;
  };
  document.addEventListener("focusin", (event) => {
    if (event.target.matches(".patches")) show(event.target);
    else if (event.target.matches("[data-word]")) tie(event.target);
  });
  document.addEventListener("focusout", (event) => event.target.matches(".patches, [data-word]") && clear());
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
