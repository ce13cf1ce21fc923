// Requests to the portal over HTTP. If the session has ended, they redirect to the login page and back.
//
// The page of a share link has no session: the last part of its address is its key. The key is sent in a header of each
// request, because the URLs of requests are logged.

import { element } from "./dom.js";
import { gettext } from "./i18n.js";

let key = "";

/** Send the key in the address of this page instead of a session. */
export function presentShareKey() {
  key = window.location.pathname.split("/").filter(Boolean).at(-1);
}

export class HttpError extends Error {
  /** `said` is the portal's sentence, "" if there is none; `retryAfterMs` is how long to wait, or 0. */
  constructor(status, said = "", retryAfterMs = 0) {
    super(said || `status ${status}`);
    this.status = status;
    this.said = said;
    this.retryAfterMs = retryAfterMs;
  }
}

/**
 * Return the cached body if the portal answers that nothing changed (304), else the new one: never an outdated one,
 * because its headers forbid that. With a cache mode of its own, Firefox would not use an answer that the page preloads.
 */
export async function getJson(address, login) {
  return answer(await fetch(address, { headers: headers() }), login);
}

/** Like `getJson`, for an answer in binary form: an ArrayBuffer. */
export async function getBinary(address, login) {
  return answer(await fetch(address, { headers: headers() }), login);
}

/** Compare the build that sent `response` with that of this page. If the portal was upgraded, offer once to reload. */
export function noteBuild(response) {
  const now = response.headers.get("Steersman-Build");
  if (!now || !document.body.dataset.build || now === document.body.dataset.build) return;
  if (document.getElementById("upgrade")) return;
  const reload = element("button", { class: "btn btn-sm", type: "button", text: gettext("Reload") });
  reload.addEventListener("click", () => window.location.reload());
  const text = element("span", { text: gettext("The portal was upgraded.") });
  const offer = element("div", { class: "toast-note toast-offer", id: "upgrade", "data-testid": "upgrade" }, text, reload);
  document.getElementById("toasts").append(offer);
}

export async function postJson(address, body, login) {
  const response = await fetch(address, {
    method: "POST",
    headers: { ...headers(), "Content-Type": "application/json", "X-CSRFToken": csrfToken() },
    body: JSON.stringify(body),
  });
  return answer(response, login);
}

function headers() {
  return key ? { Accept: "application/json", Authorization: `Bearer ${key}` } : { Accept: "application/json" };
}

/**
 * Return the body: the value of JSON, or an ArrayBuffer. Without a `login` address a person cannot log in again, and the
 * error says what to do.
 */
async function answer(response, login) {
  noteBuild(response);
  if (response.status === 401 && login) {
    const here = window.location.pathname + window.location.search;
    window.location.assign(`${login}?next=${encodeURIComponent(here)}`);
  }
  const type = response.headers.get("Content-Type") ?? "";
  let body = null;
  if (type.startsWith("application/json")) body = await response.json();
  else if (type.startsWith("application/octet-stream")) body = await response.arrayBuffer();
  if (!response.ok) throw new HttpError(response.status, body?.error, waitOf(response));
  return body;
}

function waitOf(response) {
  return 1000 * Number(response.headers.get("Retry-After")) || 0;
}

// The cookie is read each time, because a new login in another tab changes it.
function csrfToken() {
  const cookie = document.cookie.split("; ").find((part) => part.startsWith("steersman_csrf="));
  return cookie?.slice("steersman_csrf=".length) ?? document.querySelector("[name=csrfmiddlewaretoken]")?.value ?? "";
}
