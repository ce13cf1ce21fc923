// Trying rules on the past of a run: the page says that it is under way, and asks once however often one presses.

for (const form of document.querySelectorAll("form[data-trial]")) {
  const progress = form.querySelector(".trial-progress > span");
  form.addEventListener("submit", (event) => {
    if (event.submitter?.value === "save") return;
    if (progress.hidden) progress.hidden = false;
    else event.preventDefault();
  });
  // A page that the browser kept is as it was left.
  window.addEventListener("pageshow", () => {
    progress.hidden = true;
  });
}
