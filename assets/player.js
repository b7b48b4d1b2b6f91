// A run, step by step: pictures, a slider that the arrow keys move, play, the noise curve, the attention of every word.
// The value is data, made by demos/diffusion/player.py; everything becomes text or an image source, never markup.
const make = (tag, name, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
};
const vector = (tag, attributes) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};
let timer = null;

function curve(value) {  // sigma over time on a logarithmic scale, noise on the left
  const svg = vector("svg", { viewBox: "0 0 300 90", class: "curve", role: "img", "aria-label": value.say.curve });
  const at = (time, sigma) => [
    8 + (1 - time / 999) * 284,
    82 - ((Math.min(2, Math.max(-2, Math.log10(sigma))) + 2) / 4) * 70,
  ];
  const points = value.sigmas.map(([time, sigma]) => at(time, sigma).map((x) => x.toFixed(1)).join(",")).join(" ");
  svg.append(vector("polyline", { points, fill: "none" }));
  const dots = value.moments.map((moment) => {
    const [x, y] = at(moment.time, moment.sigma);
    const dot = vector("circle", { cx: x, cy: y, r: 2.2 });
    svg.append(dot);
    return dot;
  });
  return [svg, (step) => dots.forEach((dot, i) => { dot.setAttribute("r", i === step ? 6 : 2.2); })];
}

function build() {
  const player = element.querySelector(".player");
  const value = props.value;
  clearInterval(timer);
  if (!player) return;
  player.replaceChildren();
  if (!value || !value.count) return;

  const shown = [];  // functions of the step
  const stage = make("div", "stage");
  const panel = (names, title, difference) => {
    const figure = make("figure", difference ? "difference" : "");
    const frame = make("div", "frame");
    const images = names.map((name) => {
      const image = make("img");
      image.alt = title;
      frame.append(image);
      return [image, value.tracks[name]];
    });
    figure.append(frame, make("figcaption", "", title));
    stage.append(figure);
    shown.push((step) => images.forEach(([image, track]) => { image.src = track[step]; }));
  };
  panel(["noisy"], value.say.noisy);
  panel(["clean"], value.say.clean);
  if (value.guided) {
    panel(["unconditional"], value.say.unconditional);
    panel(["conditional"], value.say.conditional);
    panel(["conditional", "unconditional"], value.say.difference, true);
  }

  const bar = make("div", "controls");
  const back = make("button", "", "◀"), play = make("button", "", "▶▶"), next = make("button", "", "▶");
  back.title = value.say.back; play.title = value.say.play; next.title = value.say.next;
  const slider = make("input");
  Object.assign(slider, { type: "range", min: 0, max: value.count - 1, step: 1, value: value.count - 1 });
  slider.setAttribute("aria-label", value.say.slider);
  bar.append(back, play, next, slider);
  const numbers = make("p", "numbers");
  numbers.setAttribute("aria-live", "polite");
  player.append(stage, bar, numbers);

  const below = make("div", "below");
  const [svg, mark] = curve(value);
  const noise = make("figure");
  noise.append(svg, make("figcaption", "", value.say.curve));
  below.append(noise);
  shown.push(mark);
  player.append(below);

  if (value.strip) {
    const scroll = make("div", "strip");
    scroll.tabIndex = 0;  // so that the arrow keys scroll it
    const names = make("div", "names");
    value.rows.forEach((row) => {
      const name = make("span", row.subject ? "subject" : "", row.text);
      names.append(name);
    });
    const sheet = make("div", "sheet");
    sheet.style.maxWidth = `${44 * value.count}px`;
    sheet.style.minWidth = `${Math.min(420, 44 * value.count)}px`;
    const image = make("img");
    image.src = value.strip;
    image.alt = value.say.strip;
    const marker = make("i");
    marker.style.width = `${100 / value.count}%`;
    sheet.append(image, marker);
    sheet.addEventListener("click", (event) => {
      const box = sheet.getBoundingClientRect();
      show(Math.floor(((event.clientX - box.left) / box.width) * value.count));
    });
    scroll.append(names, sheet);
    player.append(make("h2", "", value.say.strip), scroll);
    shown.push((step) => { marker.style.left = `${(100 * step) / value.count}%`; });
  }

  function show(step) {
    step = Math.max(0, Math.min(value.count - 1, step));
    slider.value = step;
    numbers.textContent = value.moments[step].text;
    shown.forEach((change) => change(step));
  }
  const halt = () => { clearInterval(timer); timer = null; play.textContent = "▶▶"; };
  slider.addEventListener("input", () => { halt(); show(Number(slider.value)); });
  back.addEventListener("click", () => { halt(); show(Number(slider.value) - 1); });
  next.addEventListener("click", () => { halt(); show(Number(slider.value) + 1); });
  play.addEventListener("click", () => {
    if (timer) return halt();
    if (Number(slider.value) === value.count - 1) show(0);
    play.textContent = "❚❚";
    timer = setInterval(() => {
      show(Number(slider.value) + 1);
      if (Number(slider.value) === value.count - 1) halt();
    }, 250);
  });
  show(value.count - 1);
}

build();
watch("value", build);
