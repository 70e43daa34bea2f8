"use strict";
// The chart of slots. At most one lane a pixel's height is drawn, and of its spans at most one a pixel's width; failures
// are drawn in any case. So a drawing takes as long as there are pixels, however many attempts there are.
const $ = (id) => document.getElementById(id);
const canvas = $("gantt"), tip = $("tip"), search = $("search"), found = $("found");
const LEFT = 130, TOP = 22;
let data = null, view = null, colours = {}, matches = null, current = -1, due = false;

async function read() {
  const text = $("data").textContent.trim(), coded = atob(text);
  const bytes = new Uint8Array(coded.length);
  for (let at = 0; at < coded.length; at++) bytes[at] = coded.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const whole = new Uint8Array(await new Response(stream).arrayBuffer());
  const size = new DataView(whole.buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(whole.subarray(4, 4 + size)));
  const columns = {};
  let offset = 4 + size;
  for (const [name, width] of head.columns) {
    const values = width <= 4 ? new Uint32Array(head.count) : new Float64Array(head.count);
    for (let plane = 0; plane < width; plane++) {
      const factor = 2 ** (8 * plane);
      for (let at = 0; at < head.count; at++) values[at] += whole[offset++] * factor;
    }
    columns[name] = values;
  }
  const lanes = [], first = [0];
  for (const [pilot, node, cores, counts] of head.lanes) {
    cores.forEach((core, at) => {
      lanes.push({ pilot, node, core });
      first.push(first[first.length - 1] + counts[at]);
    });
  }
  const start = new Float64Array(head.count), end = new Float64Array(head.count), bad = [];
  const lane = new Uint32Array(head.count), task = new Float64Array(head.count);
  let number = 0;
  for (let line = 0; line < lanes.length; line++) {
    let time = 0;
    for (let at = first[line]; at < first[line + 1]; at++) {
      start[at] = (time += columns.gap[at]) * head.unit;
      end[at] = (time += columns.length[at]) * head.unit;
      lane[at] = line;
      const change = columns.task[at];
      number += change % 2 ? -(change + 1) / 2 : change / 2;
      task[at] = number;
      if (columns.way[at] >= 1 && columns.way[at] <= 3) bad.push(at);
    }
  }
  const names = head.texts.map((text) => text.toLowerCase());
  return { head, lanes, first, start, end, lane, task, bad, names, ...columns, task };
}

function duration(seconds) {
  if (seconds < 1) return (seconds * 1000).toPrecision(3) + " ms";
  if (seconds < 60) return seconds.toPrecision(3) + " s";
  const rounded = Math.round(seconds), two = (value) => String(value).padStart(2, "0");
  if (rounded < 3600) return Math.floor(rounded / 60) + "m" + two(rounded % 60) + "s";
  return Math.floor(rounded / 3600) + "h" + two(Math.floor((rounded % 3600) / 60)) + "m";
}

// The first span of a lane that ends after a time.
function after(lane, time) {
  let low = data.first[lane], high = data.first[lane + 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (data.end[middle] > time) high = middle; else low = middle + 1;
  }
  return low;
}

function everything() {
  view = { from: 0, to: Math.max(data.head.whole, 1e-6), top: 0, bottom: Math.max(data.lanes.length, 1) };
}

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of [...data.head.ways, "page", "line", "ink", "quiet", "found", "idle"])
    colours[name] = style.getPropertyValue("--" + name).trim();
}

function soon() {
  if (!due) { due = true; requestAnimationFrame(() => { due = false; draw(); }); }
}

function draw() {
  const ratio = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  const width = Math.max(Math.round(box.width), 200), height = Math.max(Math.round(box.height), 100);
  if (canvas.width !== width * ratio || canvas.height !== height * ratio) {
    canvas.width = width * ratio; canvas.height = height * ratio;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.fillStyle = colours.page; pen.fillRect(0, 0, width, height);
  const scale = (width - LEFT) / (view.to - view.from), tall = (height - TOP) / (view.bottom - view.top);
  const x = (time) => LEFT + (time - view.from) * scale, y = (lane) => TOP + (lane - view.top) * tall;
  drawAxes(pen, width, height, x, y, tall);
  pen.save(); pen.beginPath(); pen.rect(LEFT, TOP, width - LEFT, height - TOP); pen.clip();
  const line = Math.max(tall > 3 ? tall - 1 : tall, 1), by = Math.max(1, 1 / tall), faint = matches !== null;
  pen.globalAlpha = faint ? 0.25 : 1;
  for (let row = Math.max(view.top, 0); row < Math.min(view.bottom, data.lanes.length); row += by) {
    const lane = Math.floor(row), at0 = y(by > 1 ? row : lane);
    let at = after(lane, view.from), last = data.first[lane + 1];
    while (at < last && data.start[at] < view.to) {
      const left = x(data.start[at]), right = x(data.end[at]);
      pen.fillStyle = colours[data.head.ways[data.way[at]]];
      const wide = Math.max(right - left, 1);
      pen.fillRect(left, at0, wide > 3 ? wide - 0.6 : wide, by > 1 ? 1 : line);
      at = right - left >= 1 ? at + 1 : Math.max(at + 1, after(lane, view.from + (left + 1 - LEFT) / scale));
    }
  }
  const mark = (at, colour, least) => {
    if (data.end[at] < view.from || data.start[at] > view.to) return;
    const lane = data.lane[at];
    if (lane + 1 < view.top || lane > view.bottom) return;
    pen.fillStyle = colour;
    const wide = Math.max((data.end[at] - data.start[at]) * scale, least);
    // Where lanes share a pixel a failure is a dot: its whole bar would hide what went well on the others.
    pen.fillRect(x(data.start[at]), y(lane), tall < 1 ? Math.min(wide, least) : wide, Math.max(line, least));
  };
  const step = Math.max(1, Math.ceil(data.bad.length / 50000));
  for (let number = 0; number < data.bad.length; number += step)
    mark(data.bad[number], colours[data.head.ways[data.way[data.bad[number]]]], 1.5);
  pen.globalAlpha = 1;
  if (matches) {
    const skip = Math.max(1, Math.ceil(matches.length / 50000));
    for (let number = 0; number < matches.length; number += skip) mark(matches[number], colours.found, 2);
    if (current >= 0 && matches.length) {
      const at = matches[current];
      pen.strokeStyle = colours.ink; pen.lineWidth = 2;
      pen.strokeRect(x(data.start[at]) - 2, y(data.lane[at]) - 2, Math.max((data.end[at] - data.start[at]) * scale, 2) + 4, Math.max(line, 2) + 4);
    }
  }
  pen.restore();
}

function drawAxes(pen, width, height, x, y, tall) {
  pen.font = "12px system-ui, 'DejaVu Sans', sans-serif"; pen.textBaseline = "middle";
  const span = view.to - view.from, rough = span / Math.max((width - LEFT) / 90, 1);
  const nice = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
  let step = nice.find((value) => value >= rough);
  if (rough < 1) { const power = 10 ** Math.floor(Math.log10(rough)); step = [1, 2, 5, 10].map((f) => f * power).find((v) => v >= rough); }
  step = step || Math.ceil(rough / 86400) * 86400;
  for (let time = Math.max(Math.ceil(view.from / step), 0) * step; time <= view.to; time += step) {
    pen.fillStyle = colours.line; pen.fillRect(x(time), TOP, 1, height - TOP);
    pen.fillStyle = colours.quiet; pen.fillText(time === 0 ? "0" : duration(time), x(time) + 3, TOP / 2);
  }
  pen.fillStyle = colours.quiet;
  let free = TOP - 20;
  const by = Math.max(1, Math.floor(14 / tall));
  for (let lane = Math.max(Math.floor(view.top), 0); lane < Math.min(view.bottom, data.lanes.length); lane += tall >= 14 ? 1 : by) {
    const at = y(lane) + Math.max(tall / 2, 6);
    if (at < free + 14 || at > height - 6) continue;
    const { node, core } = data.lanes[lane];
    const text = node + " : " + core;
    pen.fillText(text.length > 18 ? "…" + text.slice(-17) : text, 4, at);
    free = at;
  }
}

function at(event) {
  const box = canvas.getBoundingClientRect();
  const part = (event.clientX - box.left - LEFT) / (box.width - LEFT), down = (event.clientY - box.top - TOP) / (box.height - TOP);
  return { part, down, time: view.from + part * (view.to - view.from), lane: view.top + down * (view.bottom - view.top) };
}

function zoom(place, factor, tall) {
  const least = data.head.unit * 20;
  let span = Math.min(Math.max((view.to - view.from) * factor, least), data.head.whole * 1.2 + least);
  view.from = place.time - place.part * span; view.to = view.from + span;
  const lanes = Math.min(Math.max((view.bottom - view.top) * tall, Math.min(4, data.lanes.length)), data.lanes.length);
  view.top = place.lane - place.down * lanes; view.bottom = view.top + lanes;
  keep();
}

function keep() {
  const span = view.to - view.from, lanes = view.bottom - view.top;
  view.from = Math.min(Math.max(view.from, -span * 0.1), data.head.whole - span * 0.9); view.to = view.from + span;
  view.top = Math.min(Math.max(view.top, 0), Math.max(data.lanes.length - lanes, 0)); view.bottom = view.top + lanes;
  soon();
}

function words(which) {
  const lane = data.lanes[data.lane[which]], head = data.head;
  const name = head.texts[data.name[which]], tags = head.texts[data.tags[which]], cause = head.causes[data.cause[which]];
  const code = data.code[which] ? " " + data.code[which] : "";
  return [
    "task " + data.task[which] + (name ? " (" + name + ")" : "") + ", attempt " + data.attempt[which],
    head.ways[data.way[which]] + ": " + cause + code,
    "from " + duration(data.start[which]) + " for " + duration(data.end[which] - data.start[which]),
    "pilot " + lane.pilot + ", " + lane.node + ", core " + lane.core,
    ...(tags ? ["tags " + JSON.parse(tags).join(", ")] : []),
  ].join("\n");
}

function point(event) {
  const place = at(event), lane = Math.floor(place.lane);
  tip.hidden = true;
  if (place.part < 0 || place.down < 0 || lane < 0 || lane >= data.lanes.length) return;
  const which = after(lane, place.time);
  if (which >= data.first[lane + 1] || data.start[which] > place.time) return;
  tip.textContent = words(which); tip.hidden = false;
  tip.style.left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8) + "px";
  tip.style.top = Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight - 8) + "px";
}

function look() {
  const wish = search.value.trim().toLowerCase();
  matches = null; current = -1; found.textContent = "";
  if (wish) {
    matches = [];
    const number = /^\d+$/.test(wish) ? Number(wish) : NaN;
    const texts = data.names.map((text) => text.includes(wish));
    const ways = data.head.ways.map((word) => word.startsWith(wish)), causes = data.head.causes.map((word) => word.toLowerCase().startsWith(wish));
    for (let which = 0; which < data.head.count; which++)
      if (Number.isNaN(number) ? texts[data.name[which]] || texts[data.tags[which]] || ways[data.way[which]] || causes[data.cause[which]] : data.task[which] === number) matches.push(which);
    found.textContent = matches.length.toLocaleString("en") + (matches.length === 1 ? " attempt" : " attempts");
    if (matches.length && !Number.isNaN(number)) go(0);
  }
  soon();
}

function go(step) {
  if (!matches || !matches.length) return;
  current = current < 0 ? 0 : (current + step + matches.length) % matches.length;
  const which = matches[current], middle = (data.start[which] + data.end[which]) / 2;
  const span = Math.min(view.to - view.from, Math.max((data.end[which] - data.start[which]) * 20, data.head.unit * 100));
  view.from = middle - span / 2; view.to = middle + span / 2;
  const lanes = Math.min(view.bottom - view.top, 40);
  view.top = data.lane[which] - lanes / 2; view.bottom = view.top + lanes;
  found.textContent = (current + 1).toLocaleString("en") + " of " + matches.length.toLocaleString("en") + ": " + words(which).split("\n")[0];
  keep();
}

function listen() {
  let held = null;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const factor = Math.exp(event.deltaY * 0.0015);
    zoom(at(event), event.shiftKey ? 1 : factor, event.ctrlKey ? 1 : factor);
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => { held = { x: event.clientX, y: event.clientY, ...view }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointerup", () => { held = null; });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return point(event);
    const box = canvas.getBoundingClientRect();
    const right = (event.clientX - held.x) / (box.width - LEFT) * (held.to - held.from);
    const down = (event.clientY - held.y) / (box.height - TOP) * (held.bottom - held.top);
    view = { from: held.from - right, to: held.to - right, top: held.top - down, bottom: held.bottom - down };
    keep();
  });
  canvas.addEventListener("dblclick", () => { everything(); soon(); });
  canvas.addEventListener("keydown", (event) => {
    const span = view.to - view.from, lanes = view.bottom - view.top, centre = { part: 0.5, down: 0.5, time: (view.from + view.to) / 2, lane: (view.top + view.bottom) / 2 };
    const act = {
      ArrowLeft: () => { view.from -= span / 8; view.to -= span / 8; }, ArrowRight: () => { view.from += span / 8; view.to += span / 8; },
      ArrowUp: () => { view.top -= lanes / 8; view.bottom -= lanes / 8; }, ArrowDown: () => { view.top += lanes / 8; view.bottom += lanes / 8; },
      "+": () => zoom(centre, 0.7, 0.7), "-": () => zoom(centre, 1 / 0.7, 1 / 0.7), "0": everything,
    }[event.key];
    if (act) { event.preventDefault(); act(); keep(); }
  });
  search.addEventListener("input", look);
  search.addEventListener("keydown", (event) => { if (event.key === "Enter") go(event.shiftKey ? -1 : 1); });
  $("next").addEventListener("click", () => go(1));
  $("before").addEventListener("click", () => go(-1));
  $("whole").addEventListener("click", () => { everything(); soon(); });
  new ResizeObserver(soon).observe(canvas);
  const again = () => { readColours(); soon(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  $("theme").addEventListener("click", () => {
    const root = document.documentElement, dark = getComputedStyle(root).colorScheme === "dark" || (getComputedStyle(root).colorScheme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
    root.dataset.theme = dark ? "light" : "dark"; again();
  });
  window.addEventListener("beforeprint", () => { readColours(); draw(); });
}

read().then((all) => {
  data = all; canvas.style.height = `min(34rem, ${Math.max(1.6 * all.lanes.length, 8) + 2}rem)`; everything(); readColours(); listen();
  const wish = decodeURIComponent(location.hash.slice(1));
  if (wish) { search.value = wish; look(); }
  draw();
  document.documentElement.dataset.ready = data.head.count;
}).catch((error) => {
  found.textContent = "The chart cannot be drawn: " + error + ". It needs a browser of 2023 or later.";
  document.documentElement.dataset.ready = "no";
});
