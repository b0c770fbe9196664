"use strict";
// Draws the charts of the data in this page, and shows the samples of an epoch. No library, no network.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const colour = i => `var(--s${i % 4})`;
  const edge = { left: 52, right: 14, top: 10, bottom: 24 };

  function element(name, attributes, parent, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  }
  function html(name, attributes, parent, text) {
    const made = document.createElement(name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  }

  function shown(value) {
    const size = Math.abs(value);
    if (size >= 1e6 || (size > 0 && size < 1e-3)) return value.toExponential(2).replace("e+", "e");
    if (size >= 1e4) return Math.round(value).toLocaleString("en");
    return String(+value.toPrecision(4));
  }

  // Round numbers in [low, high], about `count` of them.
  function ticks(low, high, count) {
    const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find(m => m * power >= raw * 0.999);
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
    return found;
  }
  function logTicks(low, high, count) {
    const choices = [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 7, 8, 9]];
    let found = [];
    for (const digits of choices) {
      found = [];
      for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++)
        for (const d of digits) {
          const value = d * 10 ** e;
          if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
        }
      if (found.length >= count - 1) break;
    }
    return found.length > 1 ? found : ticks(low, high, count);
  }

  // The ends of an axis around the values, with a little room.
  function span(values, log) {
    let low = Math.min(...values), high = Math.max(...values);
    if (low === high) [low, high] = log ? [low / 1.5, high * 1.5] : [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
    if (log) return [low / (high / low) ** 0.04, high * (high / low) ** 0.04];
    const room = (high - low) * 0.05;
    return [low >= 0 && low - room < 0 ? 0 : low - room, high + room];
  }

  function scales(chart, width, height) {
    const points = chart.series.flatMap(series => series.points);
    const ys = points.map(p => p[1]).concat(chart.levels.map(level => level.value));
    const log = chart.log && ys.every(y => y > 0);
    const xs = points.map(p => p[0]);
    const [x0, x1] = Math.min(...xs) === Math.max(...xs) ? span(xs, false) : [Math.min(...xs), Math.max(...xs)];
    const [y0, y1] = span(ys, log);
    const to = log ? Math.log : v => v;
    const x = v => edge.left + (v - x0) / (x1 - x0) * (width - edge.left - edge.right);
    const y = v => height - edge.bottom - (to(v) - to(y0)) / (to(y1) - to(y0)) * (height - edge.top - edge.bottom);
    return { x, y, log, x0, x1, y0, y1 };
  }

  function axes(svg, s, width, height, label) {
    const count = Math.max(3, Math.round(height / 55));
    for (const value of s.log ? logTicks(s.y0, s.y1, count) : ticks(s.y0, s.y1, count)) {
      const y = s.y(value);
      element("line", { class: "grid", x1: edge.left, x2: width - edge.right, y1: y, y2: y }, svg);
      element("text", { x: edge.left - 7, y: y + 4, "text-anchor": "end" }, svg, shown(value));
    }
    for (const value of ticks(s.x0, s.x1, Math.max(2, Math.min(10, Math.round(width / 90))))) {
      if (!Number.isInteger(value)) continue;
      element("text", { x: s.x(value), y: height - 7, "text-anchor": "middle" }, svg, shown(value));
    }
    element("text", { x: 2, y: height - 7 }, svg, label);
  }

  function draw(chart, box) {
    box.querySelector("svg")?.remove();
    const width = Math.max(260, box.clientWidth - 24), height = box.matches(":first-child") ? 300 : 210;
    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": chart.title });
    const s = scales(chart, width, height);
    axes(svg, s, width, height, chart.x);
    for (const level of chart.levels) {
      const y = s.y(level.value);
      element("line", { class: "level", x1: edge.left, x2: width - edge.right, y1: y, y2: y }, svg);
      element("text", { x: width - edge.right, y: y - 4, "text-anchor": "end" }, svg, `${level.name} ${shown(level.value)}`);
    }
    chart.series.forEach((series, i) => {
      const at = series.points.map(p => `${s.x(p[0]).toFixed(1)},${s.y(p[1]).toFixed(1)}`);
      element("path", { class: "line", d: "M" + at.join("L"), style: `stroke: ${colour(i)}` }, svg);
      if (series.points.length <= 40)
        for (const p of series.points) element("circle", { cx: s.x(p[0]), cy: s.y(p[1]), r: 2.4, style: `fill: ${colour(i)}` }, svg);
    });
    const cursor = element("line", { class: "cursor", y1: edge.top, y2: height - edge.bottom }, svg);
    box.append(svg);
    follow(chart, box, svg, s, cursor, width);
  }

  // The values at the pointer.
  function follow(chart, box, svg, s, cursor, width) {
    const tip = box.querySelector(".tip");
    const xs = [...new Set(chart.series.flatMap(series => series.points.map(p => p[0])))];
    svg.addEventListener("pointermove", event => {
      const here = (event.clientX - svg.getBoundingClientRect().left) * width / svg.getBoundingClientRect().width;
      const x = xs.reduce((a, b) => Math.abs(s.x(b) - here) < Math.abs(s.x(a) - here) ? b : a);
      tip.replaceChildren(document.createTextNode(`${chart.x} ${shown(x)}`));
      chart.series.forEach((series, i) => {
        const point = series.points.find(p => p[0] === x);
        if (!point) return;
        const row = html("div", {}, tip);
        html("span", { style: `color: ${colour(i)}` }, row, "\u25cf ");
        row.append(`${series.name} ${shown(point[1])}`);
      });
      for (const name of ["x1", "x2"]) cursor.setAttribute(name, s.x(x));
      cursor.style.visibility = tip.style.visibility = "visible";
      const left = s.x(x) > width / 2 ? s.x(x) - tip.offsetWidth - 2 : s.x(x) + 22;
      tip.style.left = `${Math.max(4, left)}px`;
      tip.style.top = `${svg.offsetTop + 12}px`;
    });
    svg.addEventListener("pointerleave", () => { cursor.style.visibility = tip.style.visibility = "hidden"; });
  }

  function place(chart, host) {
    const box = html("div", { class: "chart" }, host);
    html("h3", {}, box, chart.title);
    const legend = html("div", { class: "legend" }, box);
    chart.series.forEach((series, i) => {
      const entry = html("span", {}, legend);
      html("i", { style: `background: ${colour(i)}` }, entry);
      entry.append(`${series.name} ${shown(series.points[series.points.length - 1][1])}`);
    });
    html("div", { class: "tip" }, box);
    return box;
  }

  const boxes = data.charts.map(chart => place(chart, document.getElementById("charts")));
  const redraw = () => data.charts.forEach((chart, i) => draw(chart, boxes[i]));
  redraw();
  let width = document.body.clientWidth;
  new ResizeObserver(() => {
    if (document.body.clientWidth === width) return;
    width = document.body.clientWidth;
    redraw();
  }).observe(document.body);

  const slider = document.getElementById("epoch");
  if (slider) {
    const texts = document.getElementById("texts"), label = document.getElementById("epoch-label");
    const show = () => {
      const of = data.samples[slider.value];
      label.textContent = `epoch ${of.epoch}`;
      texts.replaceChildren(...of.texts.map(text => html("pre", { class: "box sample" }, null, text)));
    };
    slider.addEventListener("input", show);
    show();
  }
  document.documentElement.dataset.drawn = String(boxes.length);
})();
