// Logs in by the token behind the # of an invitation's link, or by what is typed. What is behind the # never
// reaches a server's log; it is taken out of the address at once.

import { t } from "./texts.js";

const at = (id) => document.getElementById(id);

/** Only places of this service: never another site. */
function target() {
  const next = new URLSearchParams(location.search).get("next") ?? "/";
  const url = new URL(next, location.origin);
  return url.origin === location.origin ? url.href : "/";
}

async function login(given) {
  at("problem").textContent = "";
  let response;
  try {
    response = await fetch("/api/login", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-PHQ": "2" },
      body: JSON.stringify(given),
    });
  } catch {
    at("problem").textContent = t("login.unreachable");
    return;
  }
  if (response.ok) {
    location.replace(target());
    return;
  }
  const answer = await response.json().catch(() => ({}));
  at("problem").textContent = answer.detail ?? t("login.answered", { status: response.status });
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = at("token").value.trim();
  login(token ? { token } : { name: at("name").value, password: at("password").value });
});

const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) {
  history.replaceState(null, "", location.pathname + location.search);
  login({ token });
}
