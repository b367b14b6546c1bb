// Time, keys and what is said in words.
"use strict";
(() => {
  const get = (id) => document.getElementById(id);
  const state = { time: 0, plays: false, pace: 1, span: 4, shows: true, last: 0, isDue: true };
  const slider = get("time"), steps = Math.round(Data.duration / Data.dt);

  function seek(time) {
    state.time = Math.max(0, Math.min(Data.duration, time));
    redraw();
  }

  function redraw() {
    state.isDue = true;
  }

  function play(plays) {
    if (plays && state.time >= Data.duration - 1e-9) state.time = 0;
    state.plays = plays;
    get("play").textContent = plays ? "\u275A\u275A" : "\u25B6";
    get("play").setAttribute("aria-label", plays ? "pause" : "play");
    redraw();
  }

  function frame(now) {
    const passed = Math.min(0.1, (now - state.last) / 1000);
    state.last = now;
    if (state.plays) {
      state.time += state.pace * passed;
      if (state.time >= Data.duration) { state.time = Data.duration; play(false); }
      state.isDue = true;
    }
    if (state.isDue) {
      state.isDue = state.plays || Scene.view === "follow";
      slider.value = String(Math.round(state.time / Data.dt));
      get("clock").textContent = `${state.time.toFixed(2)} of ${Data.duration.toFixed(2)} s`;
      slider.setAttribute("aria-valuetext", get("clock").textContent);
      Scene.draw(state.time, state.shows);
      Panels.draw(state.time, state.span, state.shows);
      Cameras.draw(state.time, state.shows);
      words();
      document.body.dataset.frames = String(Number(document.body.dataset.frames || 0) + 1);
    }
    window.requestAnimationFrame(frame);
  }

  // Where nothing changed there is nothing to lay out.
  function write(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  // The flight in figures, so far.
  function words() {
    tables.forEach(({ one, cells }) => {
      const row = Data.rowAt(one, state.time), { target, speed } = one.flight;
      write(cells.speed, `${speed[row].toFixed(1)} m/s`);
      let passed = 0;
      for (let i = 1; i <= row; i++) passed += target[i] !== target[i - 1];
      if (cells.gates) write(cells.gates, `${passed} passed, next is ${target[row] + 1}`);
    });
  }

  const tables = [];
  function hud() {
    for (const one of Data.policies.filter((each) => each.flight)) {
      const table = document.createElement("table"), caption = table.createCaption(), cells = {};
      caption.textContent = Data.policies.length > 1 ? one.name : "";
      caption.style.setProperty("--colour", one.colour);
      const line = (name, text) => {
        const row = table.insertRow(), head = document.createElement("th"), cell = document.createElement("td");
        head.textContent = name;
        cell.textContent = text;
        row.append(head, cell);
        return cell;
      };
      cells.speed = line("speed", "");
      if (Data.content.course) cells.gates = line("gates", "");
      one.outcome.filter(([name]) => name === "laps" || name === "end").forEach(([name, text]) => line(name, text));
      get("hud").append(table);
      tables.push({ one, cells });
    }
  }

  function legend() {
    const entry = (mark, text) => {
      const node = document.createElement("span");
      node.append(mark, text);
      get("legend").append(node);
    };
    const line = (colour, tall) => {
      const mark = document.createElement("i");
      mark.className = "line";
      mark.style.background = colour;
      mark.style.height = `${tall}px`;
      return mark;
    };
    if (!Scene.several) {
      const bar = document.createElement("i"), node = document.createElement("span");
      bar.className = "bar";
      bar.style.background = Data.speedGradient;
      node.append("flown, 0", bar, `${Scene.top} m/s`);
      get("legend").append(node);
    }
    const imagined = Data.policies.some((one) => one.futures && one.futures.position);
    if (imagined && Scene.several) entry(line("#5d6873", 2), "thin: imagined futures; wide and darker: what then happened");
    if (imagined && !Scene.several) { entry(line("#0072B2", 2), "imagined futures"); entry(line("#1f2730", 5), "what then happened"); }
    if (Data.content.course) entry(line("#009E73", 6), "next gate" + (Scene.several ? ` of ${Data.policies[0].name}` : ""));
  }

  function header() {
    get("title").textContent = Data.content.task;
    for (const one of Data.policies) {
      const item = document.createElement("li"), name = document.createElement("b"), facts = document.createElement("span");
      item.style.setProperty("--colour", Data.policies.length > 1 ? one.colour : "#1f2730");
      name.textContent = one.name;
      facts.textContent = `  ${one.facts}; ${one.outcome.filter(([n]) => n !== "laps").map(([n, text]) => `${n} ${text}`).join(", ")}`;
      item.append(name, facts);
      get("policies").append(item);
    }
  }

  function listen() {
    slider.max = String(steps);
    slider.addEventListener("input", () => seek(Number(slider.value) * Data.dt));
    get("play").addEventListener("click", () => play(!state.plays));
    const step = (count) => { play(false); seek((Math.round(state.time / Data.dt) + count) * Data.dt); };
    get("back").addEventListener("click", () => step(-1));
    get("on").addEventListener("click", () => step(1));
    get("pace").addEventListener("change", (event) => { state.pace = Number(event.target.value); });
    get("span").addEventListener("change", (event) => { state.span = Number(event.target.value); redraw(); });
    get("imagined").addEventListener("change", (event) => { state.shows = event.target.checked; redraw(); });
    get("views").addEventListener("click", (event) => { if (event.target.dataset.view) { Scene.setView(event.target.dataset.view); redraw(); } });
    document.addEventListener("redraw", redraw);
    window.addEventListener("resize", redraw);
    if (Scene.controls) Scene.controls.addEventListener("change", redraw);
    document.addEventListener("keydown", (event) => {
      if (event.target.tagName === "SELECT" || event.ctrlKey || event.metaKey || event.altKey) return;
      const far = event.shiftKey ? 10 : 1;
      const keys = {
        " ": () => play(!state.plays), ArrowLeft: () => step(-far), ArrowRight: () => step(far),
        Home: () => { play(false); seek(0); }, End: () => { play(false); seek(Data.duration); },
        f: () => get("imagined").click(), v: () => { if (Scene.has) { Scene.nextView(); redraw(); } },
      };
      const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
  }

  if (!Scene.has) get("main").classList.add("flat");
  else { hud(); legend(); }
  header();
  listen();
  Panels.build((time) => { play(false); seek(time); });
  Cameras.build(redraw);
  Scene.resize();
  window.requestAnimationFrame(frame);
})();
