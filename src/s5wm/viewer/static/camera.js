// What a camera saw, and what was imagined of it.
"use strict";
const Cameras = (() => {
  const root = document.getElementById("cameras");
  const built = [];

  function build(redraw) {
    for (const one of Data.policies.filter((each) => each.camera)) {
      const holder = document.createElement("div"), title = document.createElement("h2");
      holder.className = "camera";
      title.textContent = Data.policies.length > 1 ? `camera of ${one.name}` : "camera";
      holder.append(title);
      root.append(holder);
      const own = { one, real: image(one.camera.real, redraw), tiles: [] };
      const now = row(holder);
      own.now = tile(now, "now", one.camera.real, "now");
      const futures = one.camera.predicted;
      if (futures) {
        own.predicted = image(futures.sprite, redraw);
        const real = row(holder), said = row(holder);
        futures.ahead.forEach((ahead, place) => {
          if (place === 0) return;
          const text = `+${(ahead * one.dt).toFixed(2)} s`;
          own.tiles.push({ place, ahead, real: tile(real, text, one.camera.real), said: tile(said, "imagined", futures.sprite) });
        });
        const note = document.createElement("p");
        note.textContent = `Above: what the camera then saw. Below: imagined from this moment, ${futures.how}.`;
        holder.append(note);
      }
      built.push(own);
    }
  }

  function row(parent) {
    const node = document.createElement("div");
    node.className = "row";
    parent.append(node);
    return node;
  }

  function tile(parent, text, sprite, kind) {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas"), caption = document.createElement("figcaption");
    figure.className = kind || "";
    canvas.width = sprite.width; canvas.height = sprite.height;
    caption.textContent = text;
    figure.append(canvas, caption);
    parent.append(figure);
    return canvas.getContext("2d");
  }

  function image(sprite, redraw) {
    const node = new Image();
    node.onload = redraw;
    node.src = sprite.source;
    return node;
  }

  function show(pen, sheet, { width, height, columns }, index) {
    if (!sheet.complete) return;
    pen.drawImage(sheet, (index % columns) * width, Math.floor(index / columns) * height, width, height, 0, 0, width, height);
  }

  function draw(time, shows) {
    for (const { one, real, predicted, now, tiles } of built) {
      const row = Data.rowAt(one, time);
      show(now, real, one.camera.real, row);
      if (!predicted) continue;
      const { moment, ahead, sprite } = one.camera.predicted, index = Data.momentAt(moment, row);
      for (const each of tiles) {
        const at = moment[index] + each.ahead, is = shows && at < one.rows;
        for (const pen of [each.real, each.said]) pen.canvas.style.opacity = is ? 1 : 0.15;
        if (!is) continue;
        show(each.real, real, one.camera.real, at);
        show(each.said, predicted, sprite, index * ahead.length + each.place);
      }
    }
  }

  return { build, draw };
})();
