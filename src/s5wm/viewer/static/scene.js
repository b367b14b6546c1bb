// The track, the drones and their futures in three dimensions; z is up, metres.
"use strict";
const Scene = (() => {
  const INK = "#1f2730", GATE = "#8995a1", TARGET = "#009E73", IMAGINED = "#0072B2";
  const canvas = document.getElementById("world");
  const has = Data.policies.some((one) => one.flight);
  const nothing = { has: false, draw() {}, setView() {}, resize() {} };
  if (!has) return nothing;

  const course = Data.content.course;
  const several = Data.policies.length > 1;
  const top = Math.ceil(Math.max(...Data.policies.map((one) => Math.max(...one.flight.speed)), 1));
  let renderer;
  try {
    renderer = new L.WebGLRenderer({ canvas, antialias: true, preserveDrawingBuffer: true });
  } catch (error) {
    const note = document.createElement("p");
    note.textContent = "This browser has no WebGL, so the flight is not drawn in three dimensions; the curves are below.";
    document.body.prepend(note);
    return nothing;
  }
  renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
  const scene = new L.Scene();
  scene.background = new L.Color("#f3f5f7");
  scene.add(new L.HemisphereLight("#ffffff", "#b9c0c8", 2.2));
  const sun = new L.DirectionalLight("#ffffff", 1.6);
  sun.position.set(-6, -9, 14);
  scene.add(sun);

  const box = extent();
  const size = Math.hypot(box.hi[0] - box.lo[0], box.hi[1] - box.lo[1], box.hi[2] - box.lo[2]);
  const camera = new L.PerspectiveCamera(42, 1, 0.05, 20 * size);
  camera.up.set(0, 0, 1);
  const controls = new L.OrbitControls(camera, canvas);
  controls.enableDamping = false;
  let view = "orbit";

  ground();
  const gates = course ? course.gate_pos.map((_, gate) => buildGate(gate)) : [];
  const actors = Data.policies.filter((one) => one.flight).map(actor);
  controls.addEventListener("start", () => { if (view !== "orbit") setView("orbit", true); });
  window.addEventListener("resize", resize);
  canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
  resize();
  setView("orbit");

  function extent() {
    const lo = [Infinity, Infinity, 0], hi = [-Infinity, -Infinity, 1];
    const take = (x, y, z) => [x, y, z].forEach((v, i) => { lo[i] = Math.min(lo[i], v); hi[i] = Math.max(hi[i], v); });
    for (const one of Data.policies) {
      const p = one.flight ? one.flight.position : [];
      for (let i = 0; i < p.length; i += 3) take(p[i], p[i + 1], p[i + 2]);
    }
    const reach = course ? course.half_opening + course.rim : 0;
    if (course) course.gate_pos.forEach((p) => { take(p[0] - reach, p[1] - reach, p[2] - reach); take(p[0] + reach, p[1] + reach, p[2] + reach); });
    return { lo: lo.map((v, i) => (i < 2 ? v - 1.5 : v)), hi: hi.map((v, i) => (i < 2 ? v + 1.5 : v)) };
  }

  function ground() {
    const step = [5, 2, 1, 0.5, 0.2].find((s) => (box.hi[0] - box.lo[0]) / s >= 5) || 0.1;
    const [x0, y0] = box.lo.map((v) => Math.floor(v / step) * step), [x1, y1] = box.hi.map((v) => Math.ceil(v / step) * step);
    const z = box.lo[2];
    [box.lo[0], box.lo[1], box.hi[0], box.hi[1]] = [x0, y0, x1, y1];
    const floor = new L.Mesh(new L.PlaneGeometry(x1 - x0, y1 - y0), new L.MeshBasicMaterial({ color: "#ffffff" }));
    floor.position.set((x0 + x1) / 2, (y0 + y1) / 2, z - 0.02);
    scene.add(floor);
    const points = [];
    for (let x = x0; x <= x1 + 1e-6; x += step) points.push(x, y0, z, x, y1, z);
    for (let y = y0; y <= y1 + 1e-6; y += step) points.push(x0, y, z, x1, y, z);
    const grid = new L.BufferGeometry();
    grid.setAttribute("position", new L.BufferAttribute(new Float32Array(points), 3));
    scene.add(new L.LineSegments(grid, new L.LineBasicMaterial({ color: "#d5dbe1" })));
    const every = step * Math.max(1, Math.round((x1 - x0) / step / 6)), tall = 0.034 * size;
    for (let x = x0; x <= x1 + 1e-6; x += every) label(plain(x), [x, y0 - 0.5 * tall, z], "#5d6873", 0.6 * tall);
    for (let y = y0 + every; y <= y1 + 1e-6; y += every) label(plain(y), [x0 - 0.6 * tall, y, z], "#5d6873", 0.6 * tall);
    label("x (m)", [(x0 + x1) / 2, y0 - 1.3 * tall, z], "#5d6873", 0.7 * tall);
    label("y (m)", [x0 - 1.7 * tall, (y0 + y1) / 2, z], "#5d6873", 0.7 * tall);
  }

  function plain(value) { return String(Math.round(10 * value) / 10); }

  function label(text, at, colour, tall) {
    const sheet = document.createElement("canvas"), pen = sheet.getContext("2d");
    pen.font = "600 44px system-ui, sans-serif";
    sheet.width = Math.ceil(pen.measureText(text).width) + 16;
    sheet.height = 60;
    pen.font = "600 44px system-ui, sans-serif";
    pen.textBaseline = "middle";
    pen.lineWidth = 9; pen.strokeStyle = "#ffffff"; pen.lineJoin = "round";
    pen.strokeText(text, 8, 31);
    pen.fillStyle = colour;
    pen.fillText(text, 8, 31);
    const texture = new L.CanvasTexture(sheet);
    texture.colorSpace = L.SRGBColorSpace;
    const sprite = new L.Sprite(new L.SpriteMaterial({ map: texture, depthTest: false }));
    sprite.scale.set((tall * sheet.width) / sheet.height, tall, 1);
    sprite.position.set(...at);
    sprite.renderOrder = 10;
    scene.add(sprite);
    return sprite;
  }

  // A frame with its opening, its posts, its number and the direction of passing.
  function buildGate(gate) {
    const first = course.physical.indexOf(course.physical[gate]);
    const p = course.gate_pos[gate], yaw = course.gate_yaw[gate], half = course.half_opening, rim = course.rim;
    const material = new L.MeshLambertMaterial({ color: GATE });
    const group = new L.Group();
    group.position.set(...p);
    group.rotation.z = yaw;
    const bar = (y, z, wide, high) => {
      const mesh = new L.Mesh(new L.BoxGeometry(0.12, wide, high), material);
      mesh.position.set(0, y, z);
      group.add(mesh);
    };
    if (first === gate) {
      const middle = half + rim / 2;
      bar(0, middle, 2 * (half + rim), rim); bar(0, -middle, 2 * (half + rim), rim);
      bar(middle, 0, rim, 2 * half); bar(-middle, 0, rim, 2 * half);
      const foot = p[2] - half - rim - box.lo[2];
      if (foot > 0.02) [-1, 1].forEach((side) => {
        const post = new L.Mesh(new L.CylinderGeometry(0.03, 0.03, foot, 8), new L.MeshLambertMaterial({ color: "#c3cad1" }));
        post.rotation.x = Math.PI / 2;
        post.position.set(0, side * middle, -half - rim - foot / 2);
        group.add(post);
      });
    }
    const arrow = new L.Mesh(new L.ConeGeometry(0.16, 0.5, 16), material);
    arrow.rotation.z = -Math.PI / 2;
    arrow.position.set(0.75, 0, -half - rim / 2);
    group.add(arrow);
    scene.add(group);
    const sharing = course.physical.filter((frame, other) => frame === course.physical[gate] && other < gate).length;
    const tall = 0.04 * size;
    label(String(gate + 1), [p[0] + 0.9 * sharing * tall, p[1], p[2] + half + rim + 0.6 * tall], INK, tall);
    return { first, material };
  }

  function actor(one) {
    const index = Data.policies.indexOf(one), count = one.flight.position.length / 3;
    const colours = new Float32Array(3 * count), faint = new Float32Array(3 * count);
    const own = Data.linear(one.colour);
    for (let i = 0; i < count; i++) {
      colours.set(several ? own : Data.speedColour(one.flight.speed[i] / top), 3 * i);
      faint.set(several ? own.map((v) => 1 - 0.5 * (1 - v)) : Data.linear("#c5ccd3"), 3 * i);
    }
    const rest = Lines.polyline(one.flight.position, faint, 1.5, 0.7);
    const flown = Lines.polyline(one.flight.position, colours, several ? 3 : 4, 1);
    const futures = one.futures && one.futures.position;
    const steps = futures ? futures.shape[2] - 1 : 0, samples = futures ? futures.shape[1] : 0;
    const fan = Lines.segments(Math.max(steps * samples, 1), 2, 0.75), real = Lines.segments(Math.max(steps, 1), 5, 1);
    const drone = buildDrone(one.colour);
    // Laps lie on each other: what is imagined is drawn over what was flown, gates or not.
    [real, fan].forEach((line, order) => { line.material.depthTest = false; line.renderOrder = 2 + order; });
    // The rest of the way never hides what was flown of it.
    rest.material.depthWrite = false;
    flown.material.transparent = true;
    flown.renderOrder = 1;
    scene.add(rest, flown, fan, real, drone.group, drone.shadow);
    const scratch = { points: new Float32Array(6 * steps * samples), colours: new Float32Array(6 * steps * samples) };
    return { one, index, flown, fan, real, drone, futures, steps, samples, scratch, moment: -2 };
  }

  function buildDrone(colour) {
    const scale = Math.max(1, Math.min(5, size / 8)), arm = 0.125 * scale, disc = 0.075 * scale;
    const group = new L.Group(), body = new L.MeshLambertMaterial({ color: INK });
    const nose = new L.MeshLambertMaterial({ color: several ? colour : "#D55E00" });
    [45, 135, 225, 315].forEach((angle) => {
      const a = (angle * Math.PI) / 180, x = arm * Math.cos(a), y = arm * Math.sin(a);
      const stick = new L.Mesh(new L.BoxGeometry(arm, 0.018 * scale, 0.014 * scale), body);
      stick.position.set(x / 2, y / 2, 0);
      stick.rotation.z = a;
      // The front pair is coloured: where the drone looks.
      const rotor = new L.Mesh(new L.CylinderGeometry(disc, disc, 0.008 * scale, 24), angle === 45 || angle === 315 ? nose : body);
      rotor.rotation.x = Math.PI / 2;
      rotor.position.set(x, y, 0.02 * scale);
      group.add(stick, rotor);
    });
    group.add(new L.Mesh(new L.BoxGeometry(0.09 * scale, 0.06 * scale, 0.04 * scale), nose));
    const shadow = new L.Mesh(new L.RingGeometry(0, 1.4 * arm, 24), new L.MeshBasicMaterial({ color: "#000000", transparent: true, opacity: 0.16 }));
    scene.add(group, shadow);
    return { group, shadow };
  }

  function showFutures(actor, row, shows) {
    const { one, futures, steps, samples, scratch } = actor;
    const moment = futures && shows ? Data.momentAt(one.futures.moment, row) : null;
    if (moment === actor.moment) return;
    actor.moment = moment;
    if (moment === null) { actor.fan.geometry.instanceCount = 0; actor.real.geometry.instanceCount = 0; return; }
    const colour = Data.linear(several ? one.colour : IMAGINED), paper = Data.linear("#f3f5f7");
    let count = 0;
    for (let s = 0; s < samples; s++) {
      const base = 3 * (steps + 1) * (moment * samples + s);
      for (let h = 0; h < steps; h++) {
        const from = futures.values.subarray(base + 3 * h, base + 3 * h + 6);
        if (Number.isNaN(from[3])) break;
        scratch.points.set(from, 6 * count);
        for (let end = 0; end < 2; end++) {
          const fade = 0.55 * ((h + end) / steps);
          scratch.colours.set(colour.map((v, i) => v + (paper[i] - v) * fade), 6 * count + 3 * end);
        }
        count++;
      }
    }
    Lines.update(actor.fan, scratch.points, scratch.colours, count);
    count = 0;
    const begun = one.futures.moment[moment], ink = several ? colour.map((v) => 0.4 * v) : Data.linear(INK);
    for (let h = 0; h < steps; h++) {
      const a = begun + one.futures.ahead[h], b = begun + one.futures.ahead[h + 1];
      if (b >= one.rows) break;
      for (let i = 0; i < 3; i++) {
        scratch.points[6 * count + i] = one.flight.position[3 * a + i];
        scratch.points[6 * count + 3 + i] = one.flight.position[3 * b + i];
      }
      scratch.colours.set([...ink, ...ink], 6 * count);
      count++;
    }
    Lines.update(actor.real, scratch.points, scratch.colours, count);
  }

  function draw(time, shows) {
    for (const actor of actors) {
      const { one, drone } = actor, row = Data.rowAt(one, time);
      const share = Math.max(0, Math.min(1, time / one.dt - row)), next = Math.min(row + 1, one.rows - 1);
      const p = one.flight.position, q = one.flight.attitude;
      const at = [0, 1, 2].map((i) => p[3 * row + i] + share * (p[3 * next + i] - p[3 * row + i]));
      drone.group.position.set(...at);
      const turn = (r) => new L.Quaternion(q[4 * r + 1], q[4 * r + 2], q[4 * r + 3], q[4 * r]);
      drone.group.quaternion.copy(turn(row).slerp(turn(next), share));
      drone.shadow.position.set(at[0], at[1], box.lo[2] + 0.01);
      actor.flown.geometry.instanceCount = row;
      showFutures(actor, row, shows);
    }
    const target = actors[0].one.flight.target[Data.rowAt(actors[0].one, time)];
    gates.forEach((gate) => gate.material.color.set(GATE));
    if (gates.length) { gates[gates[target].first].material.color.set(TARGET); gates[target].material.color.set(TARGET); }
    if (view === "follow") follow(actors[0], time);
    renderer.render(scene, camera);
  }

  // Behind the drone along its way, which is steadier than its attitude.
  function follow(actor, time) {
    const { one } = actor, row = Data.rowAt(one, time), p = one.flight.position;
    const early = Math.max(0, row - 12), late = Math.min(one.rows - 1, row + 12);
    const way = new L.Vector3(p[3 * late] - p[3 * early], p[3 * late + 1] - p[3 * early + 1], p[3 * late + 2] - p[3 * early + 2]);
    const at = actor.drone.group.position, back = Math.max(1.5, 0.16 * size);
    if (way.length() < 1e-3) way.set(1, 0, 0);
    way.normalize();
    const eye = at.clone().addScaledVector(way, -back);
    eye.z = Math.max(eye.z + 0.35 * back, box.lo[2] + 0.3);
    camera.position.lerp(eye, 0.12);
    controls.target.lerp(at, 0.5);
    camera.lookAt(controls.target);
  }

  function setView(name, keeps) {
    view = name;
    const middle = new L.Vector3(...box.lo.map((v, i) => (v + box.hi[i]) / 2));
    if (!keeps && name !== "follow") {
      controls.target.copy(middle);
      const a = name === "above" ? -Math.PI / 2 : azimuth(), e = name === "above" ? 1.5705 : 0.5;
      fit(new L.Vector3(Math.cos(e) * Math.cos(a), Math.cos(e) * Math.sin(a), Math.sin(e)));
    }
    document.querySelectorAll("#views button").forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.view === name)));
  }

  // As near as shows the whole box, in the middle of the picture.
  function fit(away) {
    const corners = [0, 1, 2, 3, 4, 5, 6, 7].map((k) =>
      new L.Vector3(...[0, 1, 2].map((i) => ((k >> i) & 1 ? box.hi[i] : box.lo[i]))));
    for (let far = 0.4 * size; far < 8 * size; far *= 1.04) {
      camera.position.copy(controls.target).addScaledVector(away, far);
      camera.lookAt(controls.target);
      camera.updateMatrixWorld();
      const seen = corners.map((corner) => corner.clone().project(camera));
      const tall = seen.map((at) => at.y), up = (Math.max(...tall) + Math.min(...tall)) / 2;
      if (seen.some((at) => Math.abs(at.x) > 0.97) || Math.max(...tall) - up > 0.86) continue;
      const lift = up * far * Math.tan((camera.fov * Math.PI) / 360);
      const screen = new L.Vector3(0, 1, 0).applyQuaternion(camera.quaternion);
      controls.target.addScaledVector(screen, lift);
      camera.position.addScaledVector(screen, lift);
      break;
    }
    controls.update();
  }

  // Where no gate is seen edge-on and the longer side lies across the picture.
  function azimuth() {
    const wide = box.hi[0] - box.lo[0] >= box.hi[1] - box.lo[1];
    let best = -65, most = -1;
    for (let degrees = wide ? -120 : -30; degrees <= (wide ? -60 : 30); degrees += 2) {
      const a = (degrees * Math.PI) / 180;
      const open = course ? Math.min(...course.gate_yaw.map((yaw) => Math.abs(Math.cos(a - yaw)))) : 0;
      const score = Math.min(open, 0.4) + 0.2 * Math.abs(wide ? Math.sin(a) : Math.cos(a));
      if (score > most) { most = score; best = degrees; }
    }
    return (best * Math.PI) / 180;
  }

  function resize() {
    const { clientWidth: w, clientHeight: h } = canvas.parentElement;
    if (!w || !h) return;
    renderer.setSize(w, h, false);
    camera.aspect = w / h;
    camera.updateProjectionMatrix();
  }

  return {
    has, draw, setView, resize, controls, top, several,
    nextView() { const names = ["orbit", "follow", "above"]; setView(names[(names.indexOf(view) + 1) % 3]); },
    get view() { return view; },
  };
})();
