// Drawing a posed rig with WebGL 2: filled, as an outline or as wires. Colors and light are those of the
// images that the service draws (phq_data/rendering/renderer.py).

import { clipMatrix, eye } from "./rig_label.js";

const BODY = [0.45, 0.62, 0.8];
const HEAD = [0.93, 0.68, 0.47];
const HALO = [0.05, 0.06, 0.08];

const MESH = `#version 300 es
in vec3 position; in vec3 normal; in float share;
uniform mat4 clip; uniform vec3 eye;
out vec3 color;
void main() {
  float light = 0.35 + 0.65 * abs(dot(normal, normalize(eye - position)));
  color = mix(vec3(${BODY}), vec3(${HEAD}), share) * light;
  gl_Position = clip * vec4(position, 1.0);
}`;
const FILL = `#version 300 es
precision highp float;
in vec3 color; out vec4 shown;
void main() { shown = vec4(color, 1.0); }`;
// Lines of an outline are quads that are `width` pixels wide at any size, made on the CPU: drivers without a
// GPU draw instances one by one. `offset` is a pixel towards a quad's corner. Wires are the lines of WebGL, a
// pixel wide.
const LINE = `#version 300 es
in vec4 position; in vec2 offset; in float side; in float share;
uniform mat4 clip; uniform highp float width;
out float away; out float warm;
void main() {
  vec4 place = clip * position;
  gl_Position = place + vec4(offset * (width + 1.0) * place.w, 0.0, 0.0);
  away = side * (width + 1.0) / 2.0;
  warm = share;
}`;
const STROKE = `#version 300 es
precision highp float;
in float away; in float warm;
uniform highp float width; uniform float opacity; uniform vec3 cold; uniform vec3 hot;
out vec4 shown;
void main() {
  float alpha = opacity * clamp((width + 1.0) * 0.5 - abs(away), 0.0, 1.0);
  shown = vec4(mix(cold, hot, warm) * alpha, alpha);
}`;
const IDENTITY = new Float32Array([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
const QUAD = [[0, -1], [1, -1], [0, 1], [0, 1], [1, -1], [1, 1]]; // end, side
const CORNER = 8; // numbers of a corner: x, y, z, w, offset right and up, side, share
const [FIRST, SECOND] = [new Float64Array(4), new Float64Array(4)]; // ends of an edge, in clip space
const COLD = [0.3, 0.78, 1];
const HOT = [1, 0.72, 0.3];
const LIFT = 0.0005; // towards the eye, of the depth range: lines lie on the mesh, not in it

export const MODES = ["fill", "outline", "wire"];

/** Draws on a canvas. Throws where there is no WebGL 2. */
export class RigPainter {
  #gl;
  #mesh;
  #line;
  #rig = null;
  #pose = "";

  constructor(canvas, { kept = false } = {}) {
    const gl = canvas.getContext("webgl2", { antialias: false, premultipliedAlpha: true, preserveDrawingBuffer: kept });
    if (!gl) throw new Error("this browser has no WebGL 2");
    this.canvas = canvas;
    this.#gl = gl;
    this.#mesh = program(gl, MESH, FILL);
    this.#line = program(gl, LINE, STROKE);
    this.buffers = Object.fromEntries(["position", "normal", "share", "faces", "edges", "quads"].map((name) => [name, gl.createBuffer()]));
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  /** The graphics driver may drop everything; the page then asks for a new painter. */
  get lost() {
    return this.#gl.isContextLost();
  }

  setRig(rig) {
    const gl = this.#gl;
    this.#rig = rig;
    this.#pose = "";
    this.points = new Float32Array(3 * rig.count);
    this.normals = new Float32Array(3 * rig.count);
    this.sides = new Int8Array(rig.faces.length / 3);
    const share = Float32Array.from({ length: rig.count }, (_, at) => Math.min(1, Math.max(0, rig.weights[2 * at + 1])));
    this.share = share;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.share);
    gl.bufferData(gl.ARRAY_BUFFER, share, gl.STATIC_DRAW);
    this.edgeCount = rig.edges.length / 5;
    this.quads = new Float32Array(QUAD.length * CORNER * this.edgeCount);
    const pairs = Uint32Array.from({ length: 2 * this.edgeCount }, (_, at) => rig.edges[5 * (at >> 1) + (at & 1)]);
    for (const [buffer, indices] of [[this.buffers.faces, new Uint32Array(rig.faces)], [this.buffers.edges, pairs]]) {
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices, gl.STATIC_DRAW);
    }
  }

  /** Clear, and make the canvas `width` x `height` pixels. */
  clear(width, height) {
    const gl = this.#gl;
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    gl.disable(gl.SCISSOR_TEST);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  }

  /** Draw a label as the square `region` [x, y, side] of the photo shows it, into `box` [x, y, width, height]. */
  draw(label, region, box, { mode = "fill", scale = 1 } = {}) {
    const gl = this.#gl;
    this.#posed(label.pose);
    gl.viewport(...box);
    const [clip, centre] = [clipMatrix(label, region), eye(label)];
    const filled = mode === "fill";
    gl.colorMask(filled, filled, filled, filled);
    this.#drawFaces(clip, centre);
    gl.colorMask(true, true, true, true);
    gl.depthMask(false);
    if (mode === "wire") this.#drawWires(clip);
    if (mode === "outline") {
      const corners = this.#outline(clip, centre, box);
      this.#drawLines(corners, 5 * scale, 0.7, HALO, HALO);
      this.#drawLines(corners, 2.6 * scale, 1, COLD, HOT);
    }
    gl.depthMask(true);
  }

  #posed(pose) {
    const name = pose.join();
    if (name === this.#pose) return;
    this.#pose = name;
    const gl = this.#gl;
    this.#rig.posed(pose, this.points);
    smoothNormals(this.points, this.#rig.faces, this.normals);
    for (const [buffer, values] of [[this.buffers.position, this.points], [this.buffers.normal, this.normals]]) {
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
    }
  }

  #drawFaces(clip, centre) {
    const gl = this.#gl;
    const { handle, at } = this.#mesh;
    gl.useProgram(handle);
    this.#feed(handle, [["position", "position", 3, 0, 0], ["normal", "normal", 3, 0, 0], ["share", "share", 1, 0, 0]]);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.buffers.faces);
    gl.uniformMatrix4fv(at("clip"), false, clip);
    gl.uniform3fv(at("eye"), centre);
    gl.drawElements(gl.TRIANGLES, this.#rig.faces.length, gl.UNSIGNED_INT, 0);
  }

  #drawWires(clip) {
    const gl = this.#gl;
    const lifted = Float32Array.from(clip);
    for (let column = 0; column < 4; column += 1) lifted[4 * column + 2] -= LIFT * clip[4 * column + 3];
    this.#stroke(lifted, 2, 0.75, COLD, HOT);
    this.#feed(this.#line.handle, [["position", "position", 3, 0, 0], ["share", "share", 1, 0, 0]]);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.buffers.edges);
    gl.drawElements(gl.LINES, 2 * this.edgeCount, gl.UNSIGNED_INT, 0);
  }

  /** Draw the quads that `#outline` left in the buffer. */
  #drawLines(corners, width, opacity, cold, hot) {
    const gl = this.#gl;
    this.#stroke(IDENTITY, width, opacity, cold, hot);
    const step = 4 * CORNER;
    this.#feed(this.#line.handle, [
      ["position", "quads", 4, step, 0], ["offset", "quads", 2, step, 16], ["side", "quads", 1, step, 24], ["share", "quads", 1, step, 28],
    ]);
    gl.drawArrays(gl.TRIANGLES, 0, corners);
  }

  #stroke(clip, width, opacity, cold, hot) {
    const gl = this.#gl;
    const { handle, at } = this.#line;
    gl.useProgram(handle);
    gl.uniformMatrix4fv(at("clip"), false, clip);
    gl.uniform1f(at("width"), width);
    gl.uniform1f(at("opacity"), opacity);
    gl.uniform3fv(at("cold"), cold);
    gl.uniform3fv(at("hot"), hot);
  }

  /** Inputs of a program: its name, the buffer, numbers, bytes from one to the next, bytes before the first. */
  #feed(handle, inputs) {
    const gl = this.#gl;
    for (let slot = 0; slot < 4; slot += 1) gl.disableVertexAttribArray(slot);
    for (const [name, buffer, size, step, offset] of inputs) {
      const slot = gl.getAttribLocation(handle, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[buffer]);
      gl.enableVertexAttribArray(slot);
      gl.vertexAttribPointer(slot, size, gl.FLOAT, false, step, offset);
    }
  }

  /** Quads of the silhouette (between a front and a back side) and of the features; returns how many corners. */
  #outline(clip, centre, [, , across, down]) {
    const gl = this.#gl;
    const { edges, faces } = this.#rig;
    const { points, sides, share, quads } = this;
    facing(points, faces, centre, sides);
    let at = 0;
    for (let row = 0; row < edges.length; row += 5) {
      if (!edges[row + 4] && sides[edges[row + 2]] === sides[edges[row + 3]]) continue;
      toClip(clip, points, edges[row], FIRST);
      toClip(clip, points, edges[row + 1], SECOND);
      let right = (SECOND[0] / SECOND[3] - FIRST[0] / FIRST[3]) * across;
      let up = (SECOND[1] / SECOND[3] - FIRST[1] / FIRST[3]) * down;
      const length = Math.hypot(right, up) || 1;
      right /= length;
      up /= length;
      for (const [end, side] of QUAD) {
        const place = end ? SECOND : FIRST;
        const along = (end - 0.5) * 0.7; // ends overlap, so that corners have no gaps
        quads[at] = place[0];
        quads[at + 1] = place[1];
        quads[at + 2] = place[2] - LIFT * place[3];
        quads[at + 3] = place[3];
        quads[at + 4] = (along * right - side * up) / across;
        quads[at + 5] = (along * up + side * right) / down;
        quads[at + 6] = side;
        quads[at + 7] = share[edges[row + end]];
        at += CORNER;
      }
    }
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.quads);
    gl.bufferData(gl.ARRAY_BUFFER, quads.subarray(0, at), gl.DYNAMIC_DRAW);
    return at / CORNER;
  }
}

function toClip(m, points, vertex, out) {
  const [x, y, z] = [points[3 * vertex], points[3 * vertex + 1], points[3 * vertex + 2]];
  for (let row = 0; row < 4; row += 1) out[row] = m[row] * x + m[4 + row] * y + m[8 + row] * z + m[12 + row];
}

function program(gl, vertex, fragment) {
  const handle = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(handle, shader);
  }
  gl.linkProgram(handle);
  if (!gl.getProgramParameter(handle, gl.LINK_STATUS) && !gl.isContextLost()) {
    throw new Error(`the mesh cannot be drawn: ${gl.getProgramInfoLog(handle)}`);
  }
  const places = new Map();
  const at = (name) => {
    if (!places.has(name)) places.set(name, gl.getUniformLocation(handle, name));
    return places.get(name);
  };
  return { handle, at };
}

/** Unit normals of vertices, faces weighted by area. */
function smoothNormals(points, faces, normals) {
  normals.fill(0);
  for (let at = 0; at < faces.length; at += 3) {
    const [a, b, c] = [3 * faces[at], 3 * faces[at + 1], 3 * faces[at + 2]];
    const [ux, uy, uz] = [points[b] - points[a], points[b + 1] - points[a + 1], points[b + 2] - points[a + 2]];
    const [vx, vy, vz] = [points[c] - points[a], points[c + 1] - points[a + 1], points[c + 2] - points[a + 2]];
    const [nx, ny, nz] = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx];
    for (const corner of [a, b, c]) {
      normals[corner] += nx;
      normals[corner + 1] += ny;
      normals[corner + 2] += nz;
    }
  }
  for (let at = 0; at < normals.length; at += 3) {
    const length = Math.hypot(normals[at], normals[at + 1], normals[at + 2]) || 1;
    normals[at] /= length;
    normals[at + 1] /= length;
    normals[at + 2] /= length;
  }
}

/** 1 for faces that show their front to the eye, 0 for the others. */
function facing(points, faces, [ex, ey, ez], sides) {
  for (let at = 0; at < faces.length; at += 3) {
    const [a, b, c] = [3 * faces[at], 3 * faces[at + 1], 3 * faces[at + 2]];
    const [ux, uy, uz] = [points[b] - points[a], points[b + 1] - points[a + 1], points[b + 2] - points[a + 2]];
    const [vx, vy, vz] = [points[c] - points[a], points[c + 1] - points[a + 1], points[c + 2] - points[a + 2]];
    const out =
      (uy * vz - uz * vy) * (ex - points[a]) +
      (uz * vx - ux * vz) * (ey - points[a + 1]) +
      (ux * vy - uy * vx) * (ez - points[a + 2]);
    sides[at / 3] = out > 0 ? 1 : 0;
  }
}
