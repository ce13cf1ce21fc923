// Requests to the portal over HTTP. If the session has ended, they redirect to the login page and back. The message of
// each error is a sentence for people: what happened, and what to do.
//
// The page of a share link has no session: the last part of its address is its key. The key is sent in a header of each
// request, because the URLs of requests are logged.

import { element } from "./dom.js";
import { fill, gettext } from "./i18n.js";

// The proxy answers so if the portal does not.
const PROXY_ANSWERS = [502, 503, 504];

let key = "";

/** Send the key in the address of this page instead of a session. */
export function presentShareKey() {
  key = window.location.pathname.split("/").filter(Boolean).at(-1);
}

export class HttpError extends Error {
  /** `said` is the portal's sentence, "" if there is none; `retryAfterMs` is how long to wait, or 0. */
  constructor(status, said = "", retryAfterMs = 0) {
    super(said || sentenceOf(status, retryAfterMs));
    this.status = status;
    this.said = said;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The portal did not answer: the request or its answer got lost. */
export class NoAnswer extends Error {
  constructor() {
    super(gettext("There is no connection to the portal. What you entered is still here: check your network and try again."));
  }
}

function sentenceOf(status, retryAfterMs) {
  if (PROXY_ANSWERS.includes(status))
    return gettext("The portal is being restarted, or its proxy cannot reach it. Try again in a moment.");
  switch (status) {
    case 401:
      return gettext("Your session has ended: log in again.");
    case 403:
      return gettext("The portal does not allow this: your session may have ended, or your role has changed. Reload the page and log in again.");
    case 404:
      return gettext("This no longer exists, or you may no longer see it. Reload the page.");
    case 413:
      return gettext("This is too large for the portal or its proxy: send less at once.");
    case 429:
      if (retryAfterMs) return fill(gettext("There are too many requests: try again in {seconds} s."), { seconds: retryAfterMs / 1000 });
      return gettext("There are too many requests: try again in a minute.");
    default:
      if (status >= 500) return fill(gettext("The portal failed (status {status}). Try again; its log has the cause."), { status });
      return fill(gettext("The portal refused the request (status {status}). Reload the page and try again."), { status });
  }
}

/** Return the sentence for an outage of the database of which the portal says no more. */
export function databaseSentence() {
  return gettext("The database is busy or unavailable: the page tries again.");
}

/** Return the sentence for an error of a request that the page repeats by itself. */
export function repeatedText(error) {
  const isSilent = !(error instanceof HttpError) || (PROXY_ANSWERS.includes(error.status) && !error.said);
  return isSilent ? gettext("The portal does not answer; trying again.") : error.message;
}

/**
 * Return the cached body if the portal answers that nothing changed (304), else the new one: never an outdated one,
 * because its headers forbid that. With a cache mode of its own, Firefox would not use an answer that the page preloads.
 * With `lastKnown`, return the last known body while the database is unavailable, if the portal has it: only for a page
 * that shows nothing yet, because another one would go back in time.
 */
export async function getJson(address, login, { lastKnown = false } = {}) {
  return answer(await send(address, { headers: headers() }), login, lastKnown);
}

/** Like `getJson`, for an answer in binary form: an ArrayBuffer. */
export async function getBinary(address, login, { lastKnown = false } = {}) {
  return answer(await send(address, { headers: headers() }), login, lastKnown);
}

/**
 * Return the response to a request for a part of a page, null if the session has ended: the page then loads again, and
 * the portal sends the reader to the login.
 */
export async function getPart(address) {
  const response = await send(address, { headers: { "X-Requested-With": "fetch" }, redirect: "manual" });
  if (response.type === "opaqueredirect" || response.status === 401) {
    window.location.reload();
    return null;
  }
  noteBuild(response);
  if (!response.ok) throw new HttpError(response.status, "", waitOf(response));
  return response;
}

/** Like `getPart`, as a document. */
export async function getFragment(address) {
  const response = await getPart(address);
  return response && new DOMParser().parseFromString(await received(response.text()), "text/html");
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
  const response = await send(address, {
    method: "POST",
    headers: { ...headers(), "Content-Type": "application/json", "X-CSRFToken": csrfToken() },
    body: JSON.stringify(body),
  });
  return answer(response, login);
}

/** Like `fetch`, with a sentence for people as the message of its error. */
async function send(address, options) {
  return received(fetch(address, options));
}

/** Wait for a response, or for its body, which may get lost too. */
async function received(promise) {
  try {
    return await promise;
  } catch {
    throw new NoAnswer();
  }
}

function headers() {
  return key ? { Accept: "application/json", Authorization: `Bearer ${key}` } : { Accept: "application/json" };
}

/**
 * Return the body: the value of JSON, or an ArrayBuffer. Without a `login` address a person cannot log in again, and the
 * error says what to do.
 */
async function answer(response, login, lastKnown = false) {
  noteBuild(response);
  if (response.status === 401 && login) {
    const here = window.location.pathname + window.location.search;
    window.location.assign(`${login}?next=${encodeURIComponent(here)}`);
  }
  const type = response.headers.get("Content-Type") ?? "";
  let body = null;
  if (type.startsWith("application/json")) body = await received(response.json());
  else if (type.startsWith("application/octet-stream")) body = await received(response.arrayBuffer());
  if (response.ok) return body;
  const isKnown = response.headers.has("Steersman-Last-Known");
  if (isKnown && lastKnown) return body.last_known ?? body;
  // A last known body in binary form has no room for the portal's sentence.
  const said = body?.error ?? (isKnown ? databaseSentence() : "");
  throw new HttpError(response.status, said, waitOf(response));
}

function waitOf(response) {
  return 1000 * Number(response.headers.get("Retry-After")) || 0;
}

// The cookie is read each time, because a new login in another tab changes it.
function csrfToken() {
  const cookie = document.cookie.split("; ").find((part) => part.startsWith("steersman_csrf="));
  return cookie?.slice("steersman_csrf=".length) ?? document.querySelector("[name=csrfmiddlewaretoken]")?.value ?? "";
}
