// The rig of the workspace, asked for once.

import { imageBytes } from "./api.js";
import { Rig } from "./rig.js";

const asked = new Map();

/** The rig of this version. Throws as `imageBytes` does. */
export function loadRig(version) {
  if (!asked.has(version)) {
    const rig = imageBytes(`/api/rig/${version}`).then(async (bytes) => new Rig(await bytes.arrayBuffer()));
    asked.set(version, rig);
    rig.catch(() => asked.delete(version));
  }
  return asked.get(version);
}
