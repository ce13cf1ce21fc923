// A page that was repeated during an outage of the database: it loads again when the portal can answer.

const RETRY_MS = 2000;

async function answers() {
  try {
    return (await fetch(window.location.href)).ok;
  } catch {
    return false;
  }
}

do await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
while (!(await answers()));
window.location.reload();
