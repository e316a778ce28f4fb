// The rig in the page: its file, its pose, its edges. The formulas are those of phq_data/rig.py.
// World frame: metres, y up, the subject faces +z, the subject's left is +x, the neck joint is the origin.

const FEATURE = Math.cos((50 * Math.PI) / 180); // a sharper fold is a feature edge

/** A neutral mesh that neck and head move. Made from the bytes of `rig.safetensors`. */
export class Rig {
  constructor(buffer) {
    const { arrays, metadata } = readTensors(buffer);
    this.vertices = arrays.vertices; // [V * 3] metres
    this.faces = arrays.faces; // [F * 3]
    this.weights = arrays.weights; // [V * 2] neck, head
    this.headJoint = arrays.head_joint;
    this.neckJoint = arrays.neck_joint ?? new Float32Array(3);
    this.landmarks = arrays.landmarks; // [L * 3] metres
    this.landmarkWeights = arrays.landmark_weights;
    this.landmarkNames = JSON.parse(metadata.landmark_names);
    this.correctives = arrays.correctives ?? null; // [18, V * 3] metres
    this.count = this.vertices.length / 3;
    this.edges = edgesOf(this.vertices, this.faces);
  }

  /** Vertices [V * 3] for a pose: neck and head axis-angles, 6 radians. */
  posed(pose, out = new Float32Array(this.vertices.length)) {
    const rest = this.correctives ? this.#corrected(pose) : this.vertices;
    return this.#skin(rest, this.weights, pose, out);
  }

  /** Landmarks [L * 3] for a pose, in the order of `landmarkNames`. */
  posedLandmarks(pose) {
    return this.#skin(this.landmarks, this.landmarkWeights, pose, new Float32Array(this.landmarks.length));
  }

  #skin(rest, weights, pose, out) {
    const neck = rotation(pose.slice(0, 3));
    const head = multiply(neck, rotation(pose.slice(3, 6)));
    const [nx, ny, nz] = this.neckJoint;
    const [hx, hy, hz] = this.headJoint;
    const moved = apply(neck, [hx - nx, hy - ny, hz - nz]);
    const [ox, oy, oz] = [moved[0] + nx, moved[1] + ny, moved[2] + nz];
    for (let at = 0, w = 0; at < rest.length; at += 3, w += 2) {
      const [x, y, z] = [rest[at], rest[at + 1], rest[at + 2]];
      const [byNeck, byHead] = [weights[w], weights[w + 1]];
      const still = 1 - byNeck - byHead;
      const [ax, ay, az] = [x - nx, y - ny, z - nz];
      const [bx, by, bz] = [x - hx, y - hy, z - hz];
      for (let row = 0; row < 3; row += 1) {
        const r = 3 * row;
        out[at + row] =
          still * rest[at + row] +
          byNeck * (neck[r] * ax + neck[r + 1] * ay + neck[r + 2] * az + this.neckJoint[row]) +
          byHead * (head[r] * bx + head[r + 1] * by + head[r + 2] * bz + (row === 0 ? ox : row === 1 ? oy : oz));
      }
    }
    return out;
  }

  #corrected(pose) {
    const feature = [rotation(pose.slice(0, 3)), rotation(pose.slice(3, 6))].flatMap((turn) =>
      turn.map((value, at) => value - (at % 4 === 0 ? 1 : 0)),
    );
    const rest = Float32Array.from(this.vertices);
    feature.forEach((share, k) => {
      const start = k * rest.length;
      for (let at = 0; at < rest.length; at += 1) rest[at] += share * this.correctives[start + at];
    });
    return rest;
  }
}

// ---- 3 x 3 matrices, row-major ------------------------------------------------------------------------------

/** The rotation matrix of an axis-angle in radians (Rodrigues' formula). */
export function rotation([x, y, z]) {
  const angle = Math.hypot(x, y, z);
  const first = angle < 1e-8 ? 1 : Math.sin(angle) / angle;
  const half = angle < 1e-8 ? 1 : Math.sin(angle / 2) / (angle / 2);
  const second = 0.5 * half * half;
  return [
    1 - second * (y * y + z * z), second * x * y - first * z, second * x * z + first * y,
    second * x * y + first * z, 1 - second * (x * x + z * z), second * y * z - first * x,
    second * x * z - first * y, second * y * z + first * x, 1 - second * (x * x + y * y),
  ];
}

/** The axis-angle in radians, at most pi long, of a rotation matrix. */
export function axisAngle(m) {
  const cosine = Math.min(1, Math.max(-1, (m[0] + m[4] + m[8] - 1) / 2));
  const angle = Math.acos(cosine);
  const skew = [m[7] - m[5], m[2] - m[6], m[3] - m[1]];
  const length = Math.hypot(...skew);
  if (length > 1e-6) return skew.map((value) => (value / length) * angle);
  if (cosine > 0) return skew.map((value) => value / 2);
  const axis = [0, 4, 8].map((at) => Math.sqrt(Math.max(0, (m[at] + 1) / 2))); // half a turn
  if (m[1] < 0) axis[1] = -axis[1];
  if (m[2] < 0) axis[2] = -axis[2];
  return axis.map((value) => value * Math.PI);
}

export function multiply(a, b) {
  const out = new Array(9);
  for (let row = 0; row < 3; row += 1) {
    for (let column = 0; column < 3; column += 1) {
      out[3 * row + column] =
        a[3 * row] * b[column] + a[3 * row + 1] * b[3 + column] + a[3 * row + 2] * b[6 + column];
    }
  }
  return out;
}

export const transposed = (m) => [m[0], m[3], m[6], m[1], m[4], m[7], m[2], m[5], m[8]];

export const apply = (m, [x, y, z]) => [
  m[0] * x + m[1] * y + m[2] * z,
  m[3] * x + m[4] * y + m[5] * z,
  m[6] * x + m[7] * y + m[8] * z,
];

// ---- the file -----------------------------------------------------------------------------------------------

const TYPES = { F32: Float32Array, I32: Int32Array };

/** Arrays and metadata of a safetensors file. */
function readTensors(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const { __metadata__: metadata, ...tensors } = header;
  const arrays = {};
  for (const [name, { dtype, data_offsets: [from, to] }] of Object.entries(tensors)) {
    if (!TYPES[dtype]) throw new Error(`array ${name} of the rig holds ${dtype}`);
    arrays[name] = new TYPES[dtype](buffer.slice(8 + length + from, 8 + length + to));
  }
  return { arrays, metadata };
}

/** Edges as rows of five numbers: two vertices, the faces at both sides (-1: none), 1 for a feature. */
function edgesOf(vertices, faces) {
  const rows = new Map();
  for (let at = 0; at < faces.length; at += 3) {
    for (let k = 0; k < 3; k += 1) {
      const [a, b] = [faces[at + k], faces[at + ((k + 1) % 3)]];
      const key = a < b ? a * 2 ** 26 + b : b * 2 ** 26 + a;
      const row = rows.get(key);
      if (row) row[3] = at / 3;
      else rows.set(key, [a, b, at / 3, -1, 0]);
    }
  }
  for (const row of rows.values()) {
    if (row[3] < 0) row[4] = 1;
    else {
      const [one, other] = [faceNormal(vertices, faces, row[2]), faceNormal(vertices, faces, row[3])];
      row[4] = one[0] * other[0] + one[1] * other[1] + one[2] * other[2] < FEATURE ? 1 : 0;
    }
  }
  return Int32Array.from([...rows.values()].flat());
}

function faceNormal(vertices, faces, face) {
  const [a, b, c] = [0, 1, 2].map((k) => 3 * faces[3 * face + k]);
  const side = (from, to) => [0, 1, 2].map((axis) => vertices[to + axis] - vertices[from + axis]);
  const [u, v] = [side(a, b), side(a, c)];
  const n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
  const length = Math.hypot(...n) || 1;
  return n.map((value) => value / length);
}
