// Labels: where the rig lies in a photo, and what moves it. A label is
// { camera: [25] (camera-to-world 4x4, then intrinsics in window widths), pose: [6], window: [x, y, side] }.
// Angles are radians; camera frame: x right, y down, z forward. Nothing here changes the label it is given.

import { apply, axisAngle, multiply, rotation, transposed } from "./rig.js";

const LEVEL = [1, 0, 0, 0, -1, 0, 0, 0, -1]; // world to camera, seen from the front
const LOOK_AT = [0, 0.0649, 0]; // what the cameras of portraits look at, metres (phq_data/camera.py)
const RADIUS = 2.7;
const NEAREST = 0.3; // metres
const MOST_BEND = (100 * Math.PI) / 180; // of neck or head

/** World to camera: rotation [9] row-major and translation [3]. */
export function extrinsics({ camera }) {
  const turn = [0, 1, 2].flatMap((axis) => [camera[axis], camera[4 + axis], camera[8 + axis]]);
  const centre = [camera[3], camera[7], camera[11]];
  return { turn, shift: apply(turn, centre).map((value) => -value) };
}

/** Where the camera is, world metres. */
export const eye = ({ camera }) => [camera[3], camera[7], camera[11]];

/** Turn the rig about its neck joint: yaw about its own upright axis, pitch and roll as the camera sees them. */
export function turned(label, { yaw = 0, pitch = 0, roll = 0 }) {
  const { turn, shift } = extrinsics(label);
  const seen = multiply(rotation([0, 0, roll]), rotation([pitch, 0, 0]));
  return withExtrinsics(label, multiply(multiply(seen, turn), rotation([0, -yaw, 0])), shift);
}

/** Move the rig in the image, in window widths to the right and down. */
export function shifted(label, right, down) {
  const { turn, shift } = extrinsics(label);
  const [fx, fy] = [label.camera[16], label.camera[20]];
  return withExtrinsics(label, turn, [shift[0] + (right * shift[2]) / fx, shift[1] + (down * shift[2]) / fy, shift[2]]);
}

/** Make the rig look larger (or smaller): it comes nearer along the ray through its neck. */
export function scaled(label, factor) {
  const { turn, shift } = extrinsics(label);
  const depth = Math.max(NEAREST, shift[2] / factor);
  return withExtrinsics(label, turn, shift.map((value) => (value * depth) / shift[2]));
}

/** Bend neck or head: yaw about the upright axis of what they sit on, pitch and roll as the camera sees them. */
export function bent(label, joint, { yaw = 0, pitch = 0, roll = 0 }) {
  const at = joint === "neck" ? 0 : 3;
  const { turn } = extrinsics(label);
  const base = joint === "neck" ? turn : multiply(turn, rotation(label.pose.slice(0, 3)));
  const seen = multiply(rotation([0, 0, roll]), rotation([pitch, 0, 0]));
  const more = multiply(multiply(transposed(base), multiply(seen, base)), rotation([0, -yaw, 0]));
  const bend = axisAngle(multiply(more, rotation(label.pose.slice(at, at + 3))));
  if (Math.hypot(...bend) > MOST_BEND) return label;
  const pose = [...label.pose];
  pose.splice(at, 3, ...bend);
  return { ...label, pose };
}

/** Facing left instead of right, in the same place: yaw and pose mirrored, lean and tilt in the image stay. */
export function flipped(label) {
  const { turn, shift } = extrinsics(label);
  const { yaw, pitch, roll } = euler(turn);
  const mirrored = label.pose.map((value, at) => (at % 3 === 0 ? value : -value));
  return withExtrinsics({ ...label, pose: mirrored }, fromEuler({ yaw: -yaw, pitch, roll }), shift);
}

/** Seen from behind instead of from the front, in the same place: half a turn; tilts stay as they look. */
export function turnedAround(label) {
  const pose = label.pose.map((value, at) => (at % 3 === 2 ? -value : value));
  return turned({ ...label, pose }, { yaw: Math.PI });
}

/** Yaw, pitch and roll in radians, as a portrait of this label would state them (phq_data/camera.py). */
export function angles(label) {
  const centre = eye(label);
  const { turn } = extrinsics(label);
  const up = [-turn[3], -turn[4], -turn[5]];
  const level = lookFrom(centre, [0, 1, 0]);
  const { right } = lookFrom(centre, up);
  return {
    yaw: Math.atan2(centre[0], centre[2]),
    pitch: Math.atan2(centre[1], Math.hypot(centre[0], centre[2])),
    roll: Math.atan2(-dot(right, level.down), dot(right, level.right)),
  };
}

/** The angle between two labels' views of the chest, radians. */
export function difference(one, other) {
  const away = multiply(extrinsics(one).turn, transposed(extrinsics(other).turn));
  return Math.hypot(...axisAngle(away));
}

/** Photo pixels of a point in metres. */
export function projected(label, point) {
  const { turn, shift } = extrinsics(label);
  const [x, y, z] = apply(turn, point).map((value, axis) => value + shift[axis]);
  const [left, top, side] = label.window;
  const k = label.camera.slice(16);
  return [left + (side * (k[0] * x + k[1] * y + k[2] * z)) / z, top + (side * (k[4] * y + k[5] * z)) / z];
}

/** The matrix [16], column-major, from the world to clip space of the square `region` [x, y, side] of the photo. */
export function clipMatrix(label, region) {
  const { turn, shift } = extrinsics(label);
  const k = label.camera.slice(16);
  const [left, top, side] = label.window;
  const zoom = (2 * side) / region[2];
  const across = [zoom * k[0], zoom * k[1], zoom * k[2] + (2 * (left - region[0])) / region[2] - 1];
  const down = [0, -zoom * k[4], -zoom * k[5] - (2 * (top - region[1])) / region[2] + 1];
  const [near, far] = [Math.max(0.05, shift[2] - 1.5), Math.max(0.05, shift[2]) + 1.5];
  const depth = [0, 0, (far + near) / (far - near)];
  const rows = [across, down, depth, [0, 0, 1]].map((row, at) => [
    ...[0, 1, 2].map((column) => row[0] * turn[column] + row[1] * turn[3 + column] + row[2] * turn[6 + column]),
    dot(row, shift) - (at === 2 ? (2 * far * near) / (far - near) : 0),
  ]);
  return Float32Array.from([0, 1, 2, 3].flatMap((column) => rows.map((row) => row[column])));
}

/**
 * The posed rig from elsewhere, as labels of the unit square: from above and from the left of the photo (as
 * its camera sees it, with the camera below and to the right), and the chest from its own front.
 */
export function sideViews(label) {
  const { turn } = extrinsics(label);
  const [x, y, z] = [turn.slice(0, 3), turn.slice(3, 6), turn.slice(6, 9)];
  const away = z.map((value) => -value);
  const seen = { above: [x, away, y], left: [away, y, x], front: [0, 3, 6].map((at) => LEVEL.slice(at, at + 3)) };
  const camera = [...new Array(16).fill(0), 11, 0, 0.5, 0, 11, 0.5, 0, 0, 1];
  const entries = Object.entries(seen).map(([name, rows]) => {
    const middle = [0, name === "above" ? 0 : 0.06, 9]; // the neck a little above the middle
    return [name, withExtrinsics({ camera, pose: label.pose, window: [0, 0, 1] }, rows.flat(), middle)];
  });
  return Object.fromEntries(entries);
}

/** Yaw, pitch, roll of a rotation from the world to the camera; the inverse of `fromEuler`. */
function euler(turn) {
  // The world's up as the camera sees it has pitch and roll alone; without them only yaw is left.
  const up = [turn[1], turn[4], turn[7]];
  const roll = Math.atan2(up[0], -up[1]);
  const pitch = Math.atan2(-up[2], Math.hypot(up[0], up[1]));
  const rest = multiply(transposed(multiply(rotation([0, 0, roll]), rotation([pitch, 0, 0]))), turn);
  return { yaw: Math.atan2(-rest[2], rest[0]), pitch, roll };
}

function fromEuler({ yaw, pitch, roll }) {
  const seen = multiply(rotation([0, 0, roll]), rotation([pitch, 0, 0]));
  return multiply(multiply(seen, LEVEL), rotation([0, -yaw, 0]));
}

function withExtrinsics(label, turn, shift) {
  const clean = orthonormal(turn);
  const centre = apply(transposed(clean), shift).map((value) => -value);
  const camera = [
    clean[0], clean[3], clean[6], centre[0], clean[1], clean[4], clean[7], centre[1],
    clean[2], clean[5], clean[8], centre[2], 0, 0, 0, 1, ...label.camera.slice(16),
  ];
  return { ...label, camera };
}

/** A thousand small turns must not add up to something that is no rotation. */
function orthonormal(turn) {
  const x = unit(turn.slice(0, 3));
  const z = unit(cross(x, turn.slice(3, 6)));
  return [...x, ...cross(z, x), ...z];
}

function lookFrom(direction, up) {
  const centre = unit(direction).map((value) => value * RADIUS);
  const forward = unit(LOOK_AT.map((value, axis) => value - centre[axis]));
  const right = unit(cross(forward, up));
  return { right, down: cross(forward, right) };
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => {
  const length = Math.hypot(...a);
  return a.map((value) => value / length);
};
