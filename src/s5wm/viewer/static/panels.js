// Curves against time, what was imagined of them as bands over what then happened.
"use strict";
const Panels = (() => {
  const HEIGHT = 98, INK = "#1f2730", MUTED = "#5d6873", ALSO = "#8995a1", IMAGINED = "#0072B2";
  const several = Data.policies.length > 1;
  const root = document.getElementById("panels");
  const built = [];

  // Panels of one name of all policies are one picture.
  function grouped() {
    const found = new Map();
    for (const one of Data.policies) {
      for (const panel of one.panels) {
        const key = `${panel.section}/${panel.title}`;
        if (!found.has(key)) found.set(key, { section: panel.section, title: panel.title, unit: panel.unit, parts: [] });
        found.get(key).parts.push({ one, panel });
      }
    }
    return [...found.values()];
  }

  function build(seek) {
    const pictures = grouped();
    const sections = [...new Set(pictures.map((picture) => picture.section))];
    let open = 0;
    for (const section of sections) {
      const own = pictures.filter((picture) => picture.section === section);
      const folder = document.createElement("details"), title = document.createElement("summary"), grid = document.createElement("div");
      title.textContent = section;
      grid.className = "grid";
      folder.append(title, grid);
      root.append(folder);
      const fill = () => {
        if (!folder.open || grid.childElementCount) return;
        own.forEach((picture) => built.push(panel(picture, grid, seek)));
        document.dispatchEvent(new Event("redraw"));
      };
      folder.addEventListener("toggle", fill);
      folder.open = open < (Scene.has ? 8 : 16);
      open += folder.open ? own.length : 0;
      fill();
    }
    for (const one of Data.policies.filter((each) => each.note)) {
      const note = document.createElement("p");
      note.className = "note";
      note.textContent = `${one.name}: ${one.note}.`;
      root.append(note);
    }
  }

  function panel(picture, parent, seek) {
    const holder = document.createElement("div"), head = document.createElement("h2"), now = document.createElement("output");
    holder.className = "panel";
    head.append(picture.title, small(picture.unit && `(${picture.unit})`), small(alsoTitle(picture)), now);
    holder.append(head);
    parent.append(holder);
    const rows = Math.max(...picture.parts.map(({ one }) => one.rows));
    const times = Float64Array.from({ length: rows }, (_, row) => row * Data.dt);
    const [low, high] = range(picture);
    const series = [{}], data = [times];
    for (const { one, panel } of picture.parts) {
      data.push(padded(panel.real, rows));
      series.push({ stroke: several ? one.colour : INK, width: 1.8, points: { show: false } });
      if (panel.also) { data.push(padded(panel.also, rows)); series.push({ stroke: several ? one.colour : ALSO, width: 1.3, dash: [5, 4], points: { show: false } }); }
    }
    const axis = { stroke: MUTED, grid: { stroke: "#e8ebee", width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const plot = new L.uPlot({
      width: Math.max(holder.clientWidth, 200), height: HEIGHT, padding: [6, 8, 0, 0], legend: { show: false },
      cursor: { show: false }, scales: { x: { time: false }, y: { range: [low, high] } },
      axes: [{ ...axis, size: 18, gap: 0, space: 60, values: (_, at) => at.map((v) => `${+v.toFixed(2)} s`) }, { ...axis, size: 46, gap: 3, space: 26 }],
      series,
    }, data, holder);
    const over = document.createElement("canvas"), pen = over.getContext("2d");
    over.className = "over";
    holder.append(over);
    const seekTo = (event) => seek(plot.posToVal(event.clientX - plot.over.getBoundingClientRect().left, "x"));
    plot.over.addEventListener("pointerdown", (event) => { plot.over.setPointerCapture(event.pointerId); seekTo(event); });
    plot.over.addEventListener("pointermove", (event) => { if (event.buttons) seekTo(event); });
    const own = { picture, holder, plot, over, pen, now, isSeen: true, place: null };
    new IntersectionObserver((entries) => { own.isSeen = entries[entries.length - 1].isIntersecting; document.dispatchEvent(new Event("redraw")); }).observe(holder);
    new ResizeObserver(() => { plot.setSize({ width: Math.max(holder.clientWidth, 200), height: HEIGHT }); own.place = null; document.dispatchEvent(new Event("redraw")); }).observe(holder);
    return own;
  }

  function small(text) {
    const node = document.createElement("small");
    node.textContent = text || "";
    return node;
  }

  function alsoTitle({ parts }) {
    const also = parts.find(({ panel }) => panel.also);
    return also ? `dashed: ${also.panel.also_title}` : "";
  }

  function padded(values, rows) {
    return Array.from({ length: rows }, (_, row) => (row < values.length && !Number.isNaN(values[row]) ? values[row] : null));
  }

  function range({ parts }) {
    let low = Infinity, high = -Infinity;
    const take = (values) => { for (const v of values) if (!Number.isNaN(v)) { low = Math.min(low, v); high = Math.max(high, v); } };
    parts.forEach(({ panel }) => { take(panel.real); if (panel.also) take(panel.also); });
    if (!Number.isFinite(low)) return [-1, 1];
    const room = Math.max(0.12 * (high - low), 1e-3 * Math.abs(high), 1e-6);
    return [low - room, high + room];
  }

  function place(own) {
    const { plot, over, holder } = own, ratio = window.devicePixelRatio || 1;
    const area = plot.over.getBoundingClientRect(), outer = holder.getBoundingClientRect();
    over.style.left = `${area.left - outer.left}px`;
    over.style.top = `${area.top - outer.top}px`;
    over.style.width = `${area.width}px`;
    over.style.height = `${area.height}px`;
    over.width = Math.round(area.width * ratio);
    over.height = Math.round(area.height * ratio);
    own.place = { width: area.width, height: area.height, ratio };
  }

  // The stretch of time that is shown: all of it, or a window in which the present keeps its place.
  function windowAt(time, span) {
    if (!span || span >= Data.duration) return [0, Math.max(Data.duration, Data.dt)];
    const from = Math.max(0, Math.min(Data.duration - span, time - 0.55 * span));
    return [from, from + span];
  }

  function draw(time, span, shows) {
    const [min, max] = windowAt(time, span);
    for (const own of built) {
      if (!own.isSeen) continue;
      if (own.place === null) place(own);
      const { plot, pen, picture, now } = own, { width, height, ratio } = own.place;
      if (plot.scales.x.min !== min || plot.scales.x.max !== max) plot.setScale("x", { min, max });
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, width, height);
      const x = (t) => ((t - min) / (max - min)) * width, [low, high] = plot.series.length ? [plot.scales.y.min, plot.scales.y.max] : [0, 1];
      const y = (v) => height - ((v - low) / (high - low)) * height;
      if (shows) picture.parts.forEach(({ one, panel }) => { if (panel.band) band(pen, one, panel.band, time, x, y); });
      pen.strokeStyle = MUTED; pen.lineWidth = 1;
      pen.beginPath(); pen.moveTo(x(time), 0); pen.lineTo(x(time), height); pen.stroke();
      const texts = picture.parts.map(({ one, panel }) => {
        const row = Data.rowAt(one, time), value = panel.real[row];
        pen.fillStyle = several ? one.colour : INK;
        pen.beginPath(); pen.arc(x(row * one.dt), y(value), 3, 0, 7); pen.fill();
        return Number.isNaN(value) ? "" : value.toPrecision(3);
      });
      const text = texts.join("  ");
      if (now.textContent !== text) now.textContent = text;
    }
  }

  // Smallest to largest sample, and the median as a line, from the latest moment on.
  function band(pen, one, { shape, values }, time, x, y) {
    const { moment, ahead } = one.futures, index = Data.momentAt(moment, Data.rowAt(one, time));
    if (index === null) return;
    const steps = shape[2], at = (part, h) => values[(3 * index + part) * steps + h];
    let last = 0;
    while (last < steps && !Number.isNaN(at(1, last))) last++;
    const t = (h) => x((moment[index] + ahead[h]) * one.dt);
    pen.fillStyle = several ? one.colour : IMAGINED;
    pen.strokeStyle = pen.fillStyle;
    pen.globalAlpha = 0.22;
    pen.beginPath();
    for (let h = 0; h < last; h++) pen.lineTo(t(h), y(at(0, h)));
    for (let h = last - 1; h >= 0; h--) pen.lineTo(t(h), y(at(2, h)));
    pen.fill();
    pen.globalAlpha = 1;
    pen.lineWidth = 1.6;
    pen.setLineDash(several ? [2, 2] : []);
    pen.beginPath();
    for (let h = 0; h < last; h++) pen.lineTo(t(h), y(at(1, h)));
    pen.stroke();
    pen.setLineDash([]);
  }

  return { build, draw };
})();
