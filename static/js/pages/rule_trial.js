// Trying rules on the past of a run: the page shows that it is working, and sends one request however often the button
// is pressed.

for (const form of document.querySelectorAll("form[data-trial]")) {
  const progress = form.querySelector(".trial-progress > span");
  form.addEventListener("submit", (event) => {
    if (event.submitter?.value === "save") return;
    if (progress.hidden) progress.hidden = false;
    else event.preventDefault();
  });
  // A page that the browser restores is in its last state.
  window.addEventListener("pageshow", () => {
    progress.hidden = true;
  });
}
