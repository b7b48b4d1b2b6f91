// The guesses of a class: demos/ui/tally.py counts them, this sends them and draws the bars below the question.
// A page sees them after its own guess, so that nobody copies, and always while it presents.
() => {
  const EVERY = 2000;  // milliseconds
  const stored = (name, make) => sessionStorage.getItem(name) || (sessionStorage.setItem(name, make()), sessionStorage.getItem(name));
  const number = () => [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("");
  const room = () => new URLSearchParams(location.search).get("room");
  const key = (question) => `guessed-${room()}-${question.id}`;
  const address = new URL("tally", document.querySelector("base")?.href || location.href).pathname;

  function draw(question, found) {
    let shown = question.parentElement.querySelector(`.tally[data-of="${question.id}"]`);
    if (!shown) {
      shown = document.createElement("div");
      shown.className = "tally";
      shown.dataset.of = question.id;
      shown.setAttribute("aria-live", "polite");
      question.after(shown);
    }
    const inputs = [...question.querySelectorAll("input[type=radio]")];
    if (shown.querySelectorAll("p").length !== inputs.length) {
      const rows = inputs.map(() => {
        const row = document.createElement("p"), track = document.createElement("div");
        track.append(document.createElement("i"));
        row.append(document.createElement("span"), track, document.createElement("b"));
        return row;
      });
      shown.replaceChildren(document.createElement("h2"), ...rows);
    }
    const most = Math.max(1, ...Object.values(found.counts));
    shown.querySelector("h2").textContent = found.told;
    shown.querySelectorAll("p").forEach((row, place) => {  // the same rows each time, so that bars grow
      const value = found.counts[inputs[place].value] || 0;
      row.querySelector("span").textContent = inputs[place].closest("label").textContent.trim();
      row.querySelector("b").textContent = value;
      row.querySelector("i").style.width = `${(100 * value) / most}%`;
    });
  }

  async function ask(question, options, query = "") {
    const answer = await fetch(address + query, options).catch(() => null);
    if (answer?.ok) draw(question, await answer.json());
  }

  document.addEventListener("change", (event) => {
    const question = event.target.closest?.(".ask");
    if (!question || !room() || event.target.type !== "radio") return;
    sessionStorage.setItem(key(question), "yes");
    const guess = { room: room(), question: question.id, page: stored("page-of-class", number), answer: event.target.value };
    ask(question, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(guess) });
  }, true);

  document.addEventListener("click", (event) => {  // a class stays in its room from chapter to chapter
    const link = event.target.closest?.(".masthead a");
    if (!link || !room()) return;
    const kept = new URL(link.href);
    kept.searchParams.set("room", room());
    link.href = kept.href;
  }, true);

  setInterval(() => {
    if (!room() || document.hidden) return;
    for (const question of document.querySelectorAll(".ask")) {
      const may = document.body.classList.contains("presenting") || sessionStorage.getItem(key(question));
      if (may && question.offsetParent) {
        ask(question, {}, `?${new URLSearchParams({ room: room(), question: question.id })}`);
      }
    }
  }, EVERY);
}
