// The list of API operations: Swagger UI, with the portal's theme, the session's CSRF token, and headings in order.

const page = JSON.parse(document.getElementById("api-page").textContent);
const root = document.getElementById("swagger-ui");

function followTheme() {
  document.documentElement.classList.toggle("dark-mode", document.documentElement.dataset.bsTheme === "dark");
}

/** Swagger UI's groups are headings of level three below its title, so screen readers would miss a level. */
function orderHeadings() {
  for (const heading of root.querySelectorAll("h2.title")) heading.setAttribute("aria-level", "1");
  for (const heading of root.querySelectorAll("h3.opblock-tag, section.models h4"))
    heading.setAttribute("aria-level", "2");
}

followTheme();
new MutationObserver(followTheme).observe(document.documentElement, { attributeFilter: ["data-bs-theme"] });
new MutationObserver(orderHeadings).observe(root, { childList: true, subtree: true });

window.SwaggerUIBundle({
  url: page.openapi,
  dom_id: "#swagger-ui",
  layout: "BaseLayout",
  // Deep links are links inside of buttons, which cannot be reached by keyboard.
  deepLinking: false,
  defaultModelsExpandDepth: -1,
  // A typed token must not be stored.
  persistAuthorization: false,
  requestInterceptor(request) {
    request.headers["X-CSRFToken"] = document.querySelector("[name=csrfmiddlewaretoken]").value;
    return request;
  },
});
