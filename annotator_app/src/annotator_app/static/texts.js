// The texts of the page in its language: texts/*.json, which the service puts into the page.

const told = JSON.parse(document.getElementById("texts").textContent);

export const language = document.documentElement.lang;

/** The text of a key, with {names} filled in. */
export function t(key, values = {}) {
  return known(key, key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** The text of a key that may come from a newer service, or what the service calls it. */
export function known(key, otherwise) {
  return told[key] ?? otherwise;
}
