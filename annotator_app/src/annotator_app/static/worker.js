// The service worker: a reload without network still works, with what is at hand.
//
// The page's files are kept by version, so old and new ones never meet. What the page asked for is kept for whoever is
// logged in alone: another name, a login, a logout or a 401 empties it, and no answer to an earlier request comes in later.

const VERSION = "{{version}}";
const FILES = "{{files}}";
const SHELL = `phq-shell-${VERSION}`;
const DATA = "phq-data"; // also written by offline.js
const LANGUAGE = "/kept/language";
const OWNER = "/kept/owner";
const PATIENCE = 6000; // milliseconds until what is at hand is shown instead
const MOST = 1000; // answers about portraits; those held need 300
const LASTING = /^\/(img\/[0-9a-f]+\/(crop|overlay|thumb)|api\/rig\/)/; // the same for ever
const FRESH = /^\/api\/(me$|settings$|history\?limit=500$|items\/|portraits\/[0-9a-f]+\/camera$)/;

let session = 0; // one more at every change of who is logged in
let writes = Promise.resolve();

addEventListener("install", (event) => {
  event.waitUntil(caches.open(SHELL).then((shell) => shell.addAll(FILES)));
});

addEventListener("activate", (event) => {
  const old = (name) => name.startsWith("phq-shell-") && name !== SHELL;
  event.waitUntil(
    caches.keys().then((names) => Promise.all(names.filter(old).map((name) => caches.delete(name)))).then(() => clients.claim()),
  );
});

addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname, search } = new URL(request.url);
  if (origin !== location.origin) return;
  if (request.method === "POST" && /^\/api\/log(in|out)$/.test(pathname)) event.respondWith(changed(request));
  else if (request.method !== "GET") return;
  else if (request.mode === "navigate" && pathname === "/") event.respondWith(page(event));
  else if (pathname.startsWith("/assets/")) event.respondWith(asset(request));
  else if (LASTING.test(pathname)) event.respondWith(lasting(event));
  else if (FRESH.test(pathname + search)) event.respondWith(fresh(event, pathname));
});

async function page(event) {
  const network = fetch(event.request);
  try {
    const answer = await soon(network);
    const language = answer.headers.get("content-language");
    if (language) event.waitUntil(put(SHELL, LANGUAGE, new Response(language)));
    return answer;
  } catch {
    const language = (await (await caches.match(LANGUAGE))?.text()) ?? navigator.language.slice(0, 2);
    const inLanguage = (name) => caches.match(`/assets/${VERSION}/index.${name}.html`);
    const shell = (await inLanguage(language)) ?? (await inLanguage("en"));
    return shell ?? network;
  }
}

async function asset(request) {
  return (await caches.match(request)) ?? fetch(request);
}

async function lasting(event) {
  const { request } = event;
  return (await at(request.url)) ?? fresh(event);
}

async function fresh(event, pathname = "") {
  const { request } = event;
  const asked = session;
  const network = fetch(request);
  let answer;
  try {
    answer = await soon(network);
  } catch {
    const kept = await at(request.url);
    if (kept) return kept;
    answer = await network;
  }
  if (answer.status === 401) await forget();
  else if (answer.ok && pathname === "/api/me") await keepOwner(request, answer.clone(), asked); // before what is asked next
  else if (answer.ok) event.waitUntil(keep(request, answer.clone(), asked));
  return answer;
}

async function changed(request) {
  const answer = await fetch(request);
  if (answer.ok) await forget();
  return answer;
}

/** Who is logged in: what was kept for somebody else goes. */
async function keepOwner(request, answer, asked) {
  try {
    const { name, workspace } = await answer.clone().json();
    const owner = `${workspace}/${name}`;
    if (asked !== session) return;
    const before = await (await at(OWNER))?.text();
    if (before !== undefined && before !== owner) await forget();
    await put(DATA, OWNER, new Response(owner));
    await keep(request, answer, session);
  } catch {
    await forget(); // the disk is full: nothing is at hand
  }
}

function keep(request, answer, asked) {
  writes = writes.then(async () => {
    const data = await caches.open(DATA);
    if (asked !== session) return;
    await data.put(request, answer);
    if (Math.random() < 0.05) await prune(data);
  }).catch(() => {}); // the disk is full: less is at hand
  return writes;
}

async function prune(data) {
  const portraits = (await data.keys()).filter((one) => /^\/(img|api\/items|api\/portraits)\//.test(new URL(one.url).pathname));
  await Promise.all(portraits.slice(0, Math.max(0, portraits.length - MOST)).map((one) => data.delete(one)));
}

async function forget() {
  session += 1;
  await caches.delete(DATA);
}

async function put(cache, name, answer) {
  await (await caches.open(cache)).put(name, answer);
}

async function at(name) {
  return (await caches.open(DATA)).match(name, { ignoreVary: true });
}

/** The answer of the service, or an error when it takes too long. */
function soon(network) {
  network.catch(() => {}); // it may fail long after somebody waits for it
  const late = new Promise((_, refuse) => setTimeout(() => refuse(new TypeError("no answer in time")), PATIENCE));
  return Promise.race([network, late]);
}
