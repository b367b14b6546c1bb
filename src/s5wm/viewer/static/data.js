// Content of the page: arrays unpacked, colours, and what stands at a time.
"use strict";
const Data = (() => {
  const MISSING = 65535;
  // Okabe and Ito: told apart with every colour vision; policies differ by name and place as well.
  const POLICIES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"];
  // Slow to fast is dark to light, so that it reads without colour, too.
  const SPEED = ["#2c2a8c", "#5b2fb0", "#9433b5", "#c73d9a", "#e8566f", "#f57f45", "#f7ab2f"];

  // The parts of a colour as three.js mixes them, without the curve of the screen.
  function linear(hex) {
    return [1, 3, 5].map((at) => {
      const value = parseInt(hex.slice(at, at + 2), 16) / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
  }

  function unpack(given) {
    if (given === null) return null;
    const bytes = Uint8Array.from(atob(given.data), (letter) => letter.charCodeAt(0));
    const codes = new DataView(bytes.buffer);
    const values = new Float32Array(bytes.length / 2);
    for (let i = 0; i < values.length; i++) {
      const code = codes.getUint16(2 * i, true);
      values[i] = code === MISSING ? NaN : given.low + given.step * code;
    }
    return { shape: given.shape, values };
  }

  function policy(given, index) {
    const flight = given.flight && {
      position: unpack(given.flight.position).values,
      attitude: unpack(given.flight.attitude).values,
      speed: unpack(given.flight.speed).values,
      target: given.flight.target,
    };
    const futures = given.futures && { ...given.futures, position: unpack(given.futures.position) };
    const panels = given.panels.map((panel) => ({
      ...panel, real: unpack(panel.real).values, also: panel.also && unpack(panel.also).values, band: unpack(panel.band),
    }));
    return { ...given, colour: POLICIES[index % POLICIES.length], flight, futures, panels };
  }

  // The row of a policy at a time (s); its last one once the episode has ended.
  function rowAt(one, time) {
    return Math.max(0, Math.min(one.rows - 1, Math.floor(time / one.dt + 1e-6)));
  }

  // The latest moment from which futures were imagined, null before there is one.
  function momentAt(moments, row) {
    let found = null;
    for (let i = 0; i < moments.length && moments[i] <= row; i++) found = i;
    return found;
  }

  function speedColour(share) {
    const place = Math.max(0, Math.min(1, share)) * (SPEED.length - 1);
    const low = Math.min(SPEED.length - 2, Math.floor(place));
    const [from, to] = [SPEED_LINEAR[low], SPEED_LINEAR[low + 1]];
    return from.map((value, i) => value + (to[i] - value) * (place - low));
  }

  const SPEED_LINEAR = SPEED.map(linear);
  const content = JSON.parse(document.getElementById("content").textContent);
  const policies = content.policies.map(policy);
  return {
    content, policies, linear, rowAt, momentAt, speedColour,
    duration: Math.max(...policies.map((one) => (one.rows - 1) * one.dt)),
    dt: Math.min(...policies.map((one) => one.dt)),
    speedGradient: `linear-gradient(90deg, ${SPEED})`,
  };
})();
