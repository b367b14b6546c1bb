// Wide lines whose points and colours change while they are shown.
"use strict";
const Lines = (() => {
  // `count` segments at most; `width` in pixels.
  function segments(count, width, opacity) {
    const geometry = new L.LineGeometry();
    geometry.setPositions(new Float32Array(3 * (count + 1)));
    geometry.setColors(new Float32Array(3 * (count + 1)));
    const material = new L.LineMaterial({
      linewidth: width, vertexColors: true, transparent: opacity < 1, opacity, depthWrite: opacity === 1,
    });
    const line = new L.Line2(geometry, material);
    line.frustumCulled = false;
    geometry.instanceCount = 0;
    return line;
  }

  // `points` and `colours` hold both ends of each segment, 6 numbers a segment.
  function update(line, points, colours, count) {
    const { instanceStart, instanceColorStart } = line.geometry.attributes;
    instanceStart.data.array.set(points.subarray(0, 6 * count));
    instanceStart.data.needsUpdate = true;
    instanceColorStart.data.array.set(colours.subarray(0, 6 * count));
    instanceColorStart.data.needsUpdate = true;
    line.geometry.instanceCount = count;
  }

  // One polyline [T, 3] with a colour for each point.
  function polyline(points, colours, width, opacity) {
    const count = points.length / 3 - 1;
    const line = segments(Math.max(count, 1), width, opacity);
    const pairs = (values) => {
      const found = new Float32Array(6 * count);
      for (let i = 0; i < count; i++) found.set(values.subarray(3 * i, 3 * i + 6), 6 * i);
      return found;
    };
    update(line, pairs(points), pairs(colours), count);
    return line;
  }

  return { segments, update, polyline };
})();
