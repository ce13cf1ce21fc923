// Forms that are filled in by a passkey: the browser asks for a fingerprint, a face, a PIN or a security key, and
// signs.

import { setText } from "../shared/dom.js";
import { getJson, HttpError, NoAnswer } from "../shared/http.js";
import { fill, gettext } from "../shared/i18n.js";

const NUMBERS = /^(\d+\.\d+\.\d+\.\d+|\[.*\])$/;

/** Return why passkeys cannot be used at this address in this browser, "" if they can. */
function hindrance(host) {
  if (!window.isSecureContext) {
    return gettext("Passkeys only work over https, or on the portal's own machine at localhost.");
  }
  if (NUMBERS.test(window.location.hostname)) {
    return gettext("Passkeys need a name in the address: open the portal by its name, or at localhost on its own machine.");
  }
  if (!window.PublicKeyCredential?.parseCreationOptionsFromJSON) {
    return gettext("This browser is too old for passkeys.");
  }
  const here = window.location.hostname;
  if (here !== host) return fill(gettext("Passkeys of this portal work at {host}: open it there."), { host });
  return "";
}

/** Return a sentence for an error of the browser, or of the request for what is to be signed. */
function reason(error) {
  if (error instanceof HttpError || error instanceof NoAnswer) return error.message;
  if (error.name === "InvalidStateError") return gettext("This device already has a passkey of yours.");
  if (error.name === "NotAllowedError") return gettext("No passkey was given. Try again.");
  return fill(gettext("The browser refused: {reason}"), { reason: error.message });
}

async function optionsOf(form) {
  if (form.dataset.options) return (await getJson(form.dataset.options)).request_options;
  return JSON.parse(document.getElementById("passkey-options").textContent);
}

async function credentialFor(form) {
  const { publicKey } = await optionsOf(form);
  if (form.dataset.passkey === "make") {
    return navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(publicKey) });
  }
  return navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(publicKey) });
}

function start(form) {
  const note = form.querySelector("[data-hindrance]");
  const button = form.querySelector("[type=submit]");
  const say = (text) => {
    setText(note, text);
    note.hidden = !text;
  };
  const hindered = hindrance(form.dataset.rpId);
  button.disabled = Boolean(hindered);
  say(hindered);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    say("");
    try {
      const credential = await credentialFor(form);
      form.elements.credential.value = JSON.stringify(credential.toJSON());
      form.submit();
    } catch (error) {
      say(reason(error));
      button.disabled = false;
    }
  });
}

for (const form of document.querySelectorAll("form[data-passkey]")) start(form);
