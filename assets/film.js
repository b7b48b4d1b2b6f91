// Two runs on one clock: what each looked like at every step, curves of both, a slider that the arrow keys move, play.
// The value is data, made by demos/ui/film.py; everything becomes text, an attribute or an image source, never markup.
const make = (tag, name, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
};
const vector = (tag, attributes) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  return node;
};
const canvas = (width, height, label) =>
  vector("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const hue = (place, of) => `hsl(${Math.round((360 * place) / of)} 70% 52%)`;

// Every kind of panel: its node, and a function that shows the data of one frame in it.
const PANELS = {
  points(panel) {  // pairs of bytes, -1 to 1 as 0 to 255
    const svg = canvas(100, 100, panel.title), classes = bytes(panel.classes);
    const dots = Array.from(classes, (place) => {
      const dot = vector("circle", { r: 1.7, fill: hue(place, panel.of), "fill-opacity": 0.8 });
      svg.append(dot);
      return dot;
    });
    const names = (panel.names || []).map((name) => {
      const text = vector("text", { class: "name" });
      text.textContent = name;
      svg.append(text);
      return text;
    });
    return [svg, (data) => {
      const places = bytes(data);
      dots.forEach((dot, i) => {
        const x = 3 + (places[2 * i] / 255) * 94, y = 97 - (places[2 * i + 1] / 255) * 94;
        dot.setAttribute("cx", x.toFixed(1));
        dot.setAttribute("cy", y.toFixed(1));
        if (names[i]) { names[i].setAttribute("x", (x + 2.5).toFixed(1)); names[i].setAttribute("y", (y + 1).toFixed(1)); }
      });
    }];
  },
  circle(panel) {  // bytes, the whole turn as 0 to 255
    const svg = canvas(100, 100, panel.title), classes = bytes(panel.classes);
    svg.append(vector("circle", { cx: 50, cy: 50, r: 42, class: "ring" }));
    const dots = Array.from(classes, (place) => {
      const dot = vector("circle", { r: 2.6, fill: hue(place, panel.of), "fill-opacity": 0.6 });
      svg.append(dot);
      return dot;
    });
    return [svg, (data) => {
      bytes(data).forEach((turn, i) => {
        dots[i].setAttribute("cx", (50 + 42 * Math.cos((turn / 128) * Math.PI)).toFixed(1));
        dots[i].setAttribute("cy", (50 - 42 * Math.sin((turn / 128) * Math.PI)).toFixed(1));
      });
    }];
  },
  bars(panel) {  // one text of bytes for each series, 0 to full height as 0 to 255
    const svg = canvas(100, 64, panel.title), all = [];
    svg.setAttribute("preserveAspectRatio", "none");
    return [svg, (data) => {
      data.forEach((series, place) => {
        const heights = bytes(series), width = 100 / heights.length;
        all[place] ||= Array.from(heights, (_, i) => {
          const bar = vector("rect", { x: (i * width).toFixed(2), width: (width * 0.85).toFixed(2), class: `s${place}` });
          svg.append(bar);
          return bar;
        });
        all[place].forEach((bar, i) => {
          const height = (heights[i] / 255) * 61;
          bar.setAttribute("y", (64 - height).toFixed(1));
          bar.setAttribute("height", height.toFixed(1));
        });
      });
    }];
  },
  picture(panel) {  // the source of an image
    const image = make("img");
    image.alt = panel.title;
    return [image, (data) => { if (data) image.src = data; }];
  },
};

function curve(told, runs) {  // lines of all runs, named levels, and a mark at the step on show
  const W = 240, H = 118, left = 34, right = 6, top = 8, bottom = 14;
  const figure = make("figure"), svg = canvas(W, H, told.title);
  figure.append(make("figcaption", "", told.title), svg);
  const lines = runs.map((_, place) => vector("polyline", { class: `line r${place}`, fill: "none" }));
  const mark = vector("line", { class: "mark", y1: top, y2: H - bottom });
  const fixed = vector("g");
  svg.append(fixed, ...lines, mark);
  let across = () => 0;
  const text = (x, y, words, anchor, name) => {
    const node = vector("text", { x, y: y.toFixed(1), "text-anchor": anchor, class: name });
    node.textContent = words;
    fixed.append(node);
  };
  const refresh = (told, steps) => {
    const known = told.runs.flat().filter((y) => y !== null).concat(told.levels.map(([y]) => y));
    let [low, high] = told.ends || (known.length ? [Math.min(...known), Math.max(...known)] : [0, 1]);
    if (!(high > low)) { low -= 0.5; high += 0.5; }
    across = (x) => left + (x / steps) * (W - left - right);
    const up = (y) => H - bottom - ((Math.min(Math.max(y, low), high) - low) / (high - low)) * (H - top - bottom);
    fixed.replaceChildren();
    [low, high].forEach((y) => {
      fixed.append(vector("line", { x1: left, x2: W - right, y1: up(y), y2: up(y), class: "grid" }));
      const plain = Number(y.toPrecision(3)).toString();  // six characters find room beside the axis
      text(left - 4, up(y) + 3.5, plain.length > 6 ? y.toExponential(1) : plain, "end", "tick");
    });
    let above = -99;  // names are above their lines, but below where another line is too near
    [...told.levels].sort(([a], [b]) => b - a).forEach(([y, name]) => {
      const near = up(y) - above < 10 || up(y) < top + 8;
      fixed.append(vector("line", { x1: left, x2: W - right, y1: up(y), y2: up(y), class: "level" }));
      text(W - right, up(y) + (near ? 9 : -2), name, "end", "tick");
      above = up(y);
    });
    text(W - right, H - 3, String(steps), "end", "tick");
    text(left, H - 3, "0", "start", "tick");
    lines.forEach((line, place) => {
      const points = told.x.map((x, i) => [x, told.runs[place][i]]).filter(([, y]) => y !== null && y !== undefined);
      line.setAttribute("points", points.map(([x, y]) => `${across(x).toFixed(1)},${up(y).toFixed(1)}`).join(" "));
    });
  };
  const show = (step) => { mark.setAttribute("x1", across(step)); mark.setAttribute("x2", across(step)); };
  return [figure, refresh, show];
}

let film = null;  // what is built: { begun, refresh }
let timer = null;

function build(value, root) {
  root.replaceChildren();
  const runs = make("div", "runs"), showing = [], refreshing = [];
  value.runs.forEach((name, run) => {
    const section = make("section", `run r${run}`), head = make("header");
    const told = make("span", "told"), alarm = make("strong", "alarm");
    head.append(make("b", "", name), told, alarm);
    const panels = make("div", "panels");
    value.layout.forEach((panel) => {
      const [node, show] = PANELS[panel.kind](panel);
      const figure = make("figure", `${panel.kind} ${panel.size}`);
      figure.append(node, make("figcaption", "", panel.title));
      panels.append(figure);
      showing.push((frame, now) => { if (now.panels[panel.key]) show(now.panels[panel.key][frame][run]); });
    });
    section.append(head, panels);
    runs.append(section);
    showing.push((frame, now) => {
      told.textContent = now.told[frame][run];
      alarm.textContent = now.alarms[frame][run];
      section.classList.toggle("alarmed", Boolean(now.alarms[frame][run]));
    });
  });

  const curves = make("div", "curves");
  value.curves.forEach((told, place) => {
    const [figure, refresh, show] = curve(told, value.runs);
    curves.append(figure);
    refreshing.push((now) => refresh(now.curves[place], now.of));
    showing.push((frame, now) => show(now.steps[frame]));
  });

  const bar = make("div", "controls");
  const back = make("button", "", "◀"), play = make("button", "", "▶▶"), next = make("button", "", "▶");
  back.title = value.say.back; play.title = value.say.play; next.title = value.say.next;
  const slider = make("input"), step = make("span", "step");
  Object.assign(slider, { type: "range", min: 0, max: 0, step: 1, value: 0 });
  slider.setAttribute("aria-label", value.say.slider);
  bar.append(back, play, next, slider, step);
  root.append(runs, bar, curves);

  let now = value;
  const show = (frame) => {
    frame = Math.max(0, Math.min(now.steps.length - 1, frame));
    slider.value = frame;
    step.textContent = `${now.steps[frame]} / ${now.of}`;
    showing.forEach((change) => change(frame, now));
  };
  const halt = () => { clearInterval(timer); timer = null; play.textContent = "▶▶"; };
  slider.addEventListener("input", () => { halt(); show(Number(slider.value)); });
  back.addEventListener("click", () => { halt(); show(Number(slider.value) - 1); });
  next.addEventListener("click", () => { halt(); show(Number(slider.value) + 1); });
  play.addEventListener("click", () => {
    if (timer) return halt();
    if (Number(slider.value) === now.steps.length - 1) show(0);
    play.textContent = "❚❚";
    timer = setInterval(() => {
      show(Number(slider.value) + 1);
      if (Number(slider.value) === now.steps.length - 1) halt();
    }, 120);
  });
  return (fresh) => {  // the same film with more frames: the newest is shown to whoever was at the newest
    const newest = Number(slider.value) >= Number(slider.max);
    now = fresh;
    slider.max = fresh.steps.length - 1;
    refreshing.forEach((refresh) => refresh(fresh));
    show(newest && !timer ? fresh.steps.length - 1 : Number(slider.value));
  };
}

function draw() {
  const root = element.querySelector(".film"), value = props.value;
  if (!root) return;
  if (!value || !value.steps || !value.steps.length) {
    clearInterval(timer);
    film = null;
    root.replaceChildren();
    return;
  }
  if (!film || film.begun !== value.begun || film.root !== root) {
    clearInterval(timer);
    timer = null;
    film = { begun: value.begun, root, refresh: build(value, root) };
  }
  film.refresh(value);
}

let waiting = false, spent = 0;  // milliseconds of the last drawing, with its layout and paint

function update() {  // a page that draws rests twice as long, so that it hears a click on a slow computer as well
  if (waiting) return;
  waiting = true;
  setTimeout(() => {
    waiting = false;
    const begun = performance.now();
    draw();
    requestAnimationFrame(() => setTimeout(() => { spent = performance.now() - begun; }));
  }, Math.min(2 * spent, 1000));
}

update();
watch("value", update);
