// The service over HTTP. Every failure is one of three kinds, because the loop treats them differently:
// `Unreachable` (try again later), `LoginNeeded` (ask the person), `Refused` (this request is wrong).

import { t } from "./texts.js";

const PATIENCE = 12000; // milliseconds until a request counts as lost

/** The network or the service is away, or the database is busy; `message` is for people. */
export class Unreachable extends Error {
  constructor(message, { busy = false } = {}) {
    super(message);
    this.busy = busy; // the service answered, but cannot write at the moment
  }
}

/** Nobody is logged in. */
export class LoginNeeded extends Error {}

/** The service understood the request and said no; `status` is HTTP's. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const get = (path) => request(path, { method: "GET" });

export const post = (path, body, { leaving = false } = {}) =>
  request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-PHQ": "2" },
    body: JSON.stringify(body),
    keepalive: leaving, // outlives the page
  });

/** Bytes of an image, for the feed. */
export async function imageBytes(path) {
  const response = await send(path, { method: "GET" });
  if (!response.ok) throw await failure(response);
  return response.blob();
}

async function request(path, options) {
  const response = await send(path, options);
  if (!response.ok) throw await failure(response);
  return response.json();
}

async function send(path, options) {
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), PATIENCE);
  try {
    return await fetch(path, { ...options, credentials: "same-origin", signal: patience.signal });
  } catch {
    throw new Unreachable(t("service_away"));
  } finally {
    clearTimeout(timer);
  }
}

async function failure(response) {
  let message = t("service_answered", { status: response.status });
  try {
    const { detail, message: said } = await response.json();
    const text = said ?? detail;
    if (typeof text === "string") message = text;
    else if (Array.isArray(text) && text[0]?.msg) message = text.map((one) => one.msg).join("; ");
  } catch {
    // An answer without JSON keeps the plain sentence.
  }
  if (response.status === 401) return new LoginNeeded(message);
  if (response.status >= 500 || response.status === 429 || response.status === 408) {
    return new Unreachable(message, { busy: true });
  }
  return new Refused(message, response.status);
}
