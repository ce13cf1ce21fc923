// The run page: loads the history, follows the socket, and paints changes.

import "../shared/page_frame.js";
import { ChartView } from "../chart/view.js";
import { CommandClient } from "../commands/client.js";
import { EffectReader } from "../commands/effect_reader.js";
import { linkedMark } from "../commands/interventions.js";
import { InterventionMarks } from "../commands/intervention_marks.js";
import { WrittenTexts } from "../commands/written_texts.js";
import { KnobPanel } from "../knobs/panel.js";
import { Activity } from "../panels/activity.js";
import { Alerts } from "../panels/alerts.js";
import { MachinePanel } from "../panels/machine/panel.js";
import { machineChartsOf } from "../panels/charts/arrangement.js";
import { ChartPanel } from "../panels/charts/panel.js";
import { queryOf, viewOf } from "../panels/charts/view_link.js";
import { copyText } from "../shared/clipboard.js";
import { Checkpoints } from "../panels/checkpoints.js";
import { CommandLog } from "../panels/command_log.js";
import { ConsolePanel } from "../panels/console.js";
import { Controls } from "../panels/controls.js";
import { Epochs } from "../panels/epochs.js";
import { Ending } from "../panels/ending.js";
import { Failure } from "../panels/failure.js";
import { PendingCommands } from "../panels/pending_commands.js";
import { Stats } from "../panels/stats.js";
import { TextSamples } from "../panels/text_samples.js";
import { getBinary, getJson, HttpError, presentShareKey } from "../shared/http.js";
import { gettext, useStateTexts } from "../shared/i18n.js";
import { isPressing, Painter, watchPresses } from "../shared/painter.js";
import { readPalette } from "../shared/palette.js";
import { shortcut } from "../shared/shortcuts.js";
import { tabIcon } from "./tab_icon.js";
import { unpackHistory } from "../state/packed_history.js";
import { applyEvent, emptyState } from "../state/run_state.js";
import { About } from "./about.js";
import { Announcer } from "./announcer.js";
import { BranchSheet } from "../sheets/branch_sheet.js";
import { Header } from "./header.js";
import { Nearness } from "./nearness.js";
import { QueuePosition } from "./queue_position.js";
import { settleAt } from "./settling.js";
import { Sight } from "./sight.js";
import { RunSocket } from "./socket/socket.js";
import { startTags } from "./tags.js";
import { Notifications } from "./notifications.js";
import { Watchers } from "./watchers.js";
import "./start_buttons.js";

const STATS_EVERY_MS = 250;
const TICK_MS = 250;
const DETAILS_AFTER_MS = 400;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 10_000;
// After a connection that lasted this long, the next reload is immediate.
const STEADY_MS = 10_000;

const page = JSON.parse(document.getElementById("run-page").textContent);
if (page.shared) presentShareKey();
useStateTexts(page.states);
const state = emptyState();
watchPresses(document);
const painter = new Painter(isPressing);
const request = () => painter.request();
const socket = new RunSocket(page, { since: () => state.seq, at: () => state.seqAt, onFrame: receive, onLink: connection });
const announcer = new Announcer(document.getElementById("announced"));
const header = new Header(state, page, announcer);
const watchers = new Watchers(state);
const view = new ChartView(document.getElementById("chart-tools"), (what) => {
  if (what === "over") charts.resetZoom();
  if (what === "attempt") charts.refine();
  request();
});
const linked = linkedMark(window.location.search);
const marks = new InterventionMarks(state, view, linked);
const near = new Nearness();
const charts = new ChartPanel(state, page, view, marks, request, near);
const machine = new MachinePanel(state, request);
const stats = new Stats(state, charts.preferences, machineChartsOf, request);
const linkedView = viewOf(window.location.search);
if (linkedView) {
  view.apply(linkedView);
  charts.apply(linkedView);
}
const epochs = new Epochs(state, page, view, charts.marksOver("epoch"), request);
const texts = new TextSamples(state);
const output = new ConsolePanel(state, announcer);
const failure = new Failure(state, output);
const ending = new Ending(state);
const activity = new Activity(state);
const client = new CommandClient(state, socket, request);
const controls = new Controls(state, client, page.commands);
const knobs = new KnobPanel(state, client, page.commands.set_knob);
const pendingCommands = new PendingCommands(client);
const queuePosition = new QueuePosition(state, page);
const commandLog = new CommandLog(
  state,
  client,
  new EffectReader(state, charts.fetchRange, request),
  new WrittenTexts(page.addresses, request),
);
const checkpoints = new Checkpoints(state, page);
if (page.addresses.checkpoints) new BranchSheet();
const alerts = new Alerts(state, page);
const sight = new Sight(state, page, socket, {
  shown: () => [...stats.namesShown(), ...machine.namesShown(), ...(state.run?.knobs ?? []).map((knob) => knob.series), ...near.names()],
  onFilled: request,
});
const showIcon = tabIcon(document.querySelector('link[rel="icon"][data-alert]'));
const showTags = startTags(document.getElementById("tags"), page.addresses);
const about = page.addresses.about ? new About(state, page, showTags) : null;
const notifications = new Notifications(document.getElementById("notify"), window.location.pathname);

// A link in a message scrolls to the charts, unless the viewer has already scrolled.
let showsLinked = linked !== null && !window.location.hash;
let loading = false;
let reloads = 0;
let attemptsSeen = 0;
let steadyTimer = 0;
let detailsTimer = 0;

function receive(frame) {
  applyEvent(state, frame);
  if (frame.kind === "hello") greet(frame);
  else if (frame.kind === "resync") reload();
  else if (frame.kind === "sight") sight.taken();
  if (state.gap) reload();
  // Not only before painting: a hidden tab sends its commands again too.
  client.readAnswers();
  if (state.versions.attempts !== attemptsSeen) {
    attemptsSeen = state.versions.attempts;
    clearTimeout(detailsTimer);
    detailsTimer = setTimeout(loadDetails, DETAILS_AFTER_MS);
  }
  request();
}

function greet(hello) {
  header.setClock(hello.server_time);
  // The newest points of hidden series may have been lost with the previous connection, and this greeting may not have
  // them.
  const lacksNewest = state.sight !== null && hello.incomplete?.includes("latest");
  if ((!hello.replay && hello.seq !== state.seq) || lacksNewest) {
    reload();
    return;
  }
  clearTimeout(steadyTimer);
  steadyTimer = setTimeout(() => (reloads = 0), STEADY_MS);
  socket.greeted();
  sight.greeted();
}

/** Load everything again and follow from there, because events alone cannot close the gap. */
function reload() {
  if (loading) return;
  clearTimeout(steadyTimer);
  socket.pause();
  reloads += 1;
  const wait = reloads > 1 ? Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** reloads) : 0;
  setTimeout(load, wait);
  loading = true;
}

async function load() {
  loading = true;
  for (let wait = FIRST_RETRY_MS; ; wait = Math.min(LONGEST_RETRY_MS, wait * 2)) {
    try {
      // A page that shows something already must not go back in time.
      const history = await getBinary(page.addresses.history, page.addresses.login, { lastKnown: !state.seq });
      applyEvent(state, { ...unpackHistory(history), kind: "history" });
      attemptsSeen = state.versions.attempts;
      break;
    } catch (error) {
      if (error instanceof HttpError && error.status < 500) {
        connection("offline", error.message);
        return;
      }
      const silence = wait > 2 * FIRST_RETRY_MS ? gettext("The portal does not answer; trying again.") : "";
      connection("reconnecting", error.said || silence);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
  loading = false;
  // Before anything else is painted, and without waiting for a frame.
  charts.paint(performance.now());
  request();
  socket.connect();
}

async function loadDetails() {
  try {
    applyEvent(state, { ...(await getJson(page.addresses.details, page.addresses.login)), kind: "details" });
    request();
  } catch {
    // the panels keep their content; the next change of state requests again
  }
}

function connection(link, sentence = "") {
  header.setConnection(link, sentence);
  request();
}

painter.add(() => {
  header.paint();
  ending.paint();
});
painter.add((now) => {
  client.readAnswers();
  controls.paint();
  pendingCommands.paint(now);
});
painter.add(() => watchers.paint(), STATS_EVERY_MS);
painter.add(() => knobs.paint(), STATS_EVERY_MS);
painter.add(() => stats.paint(), STATS_EVERY_MS);
painter.add(() => machine.paint(), STATS_EVERY_MS);
painter.add((now) => queuePosition.paint(now), STATS_EVERY_MS);
painter.add((now) => {
  charts.paint(now);
  epochs.paint(now);
  if (showsLinked && state.series.size) {
    showsLinked = false;
    if (!window.scrollY) settleAt(document.getElementById("charts"));
  }
});
painter.add(() => {
  output.paint();
  failure.paint();
  commandLog.paint();
  checkpoints.paint();
  alerts.paint();
  activity.paint();
  texts.paint();
  about?.paint();
}, STATS_EVERY_MS);

painter.add(() => header.tick(), TICK_MS);
setInterval(() => {
  // A hidden page is not painted: title, icon and notifications are for that time.
  header.title();
  showIcon(state.alerts, state.run);
  if (state.run && state.versions.details) notifications.look(state.alerts, state.run.name);
  request();
}, TICK_MS);
window.addEventListener("themechange", () => {
  readPalette();
  request();
});

const sections = [...document.querySelectorAll(".sections a")];
sections.forEach((link, index) => {
  shortcut(String(index + 1), () => {
    if (link.hidden) return;
    link.dispatchEvent(new Event("click"));
    document.querySelector(link.hash).focus();
    document.querySelector(link.hash).scrollIntoView({ block: "start" });
  });
});
function mark(link, current) {
  if (current) link.setAttribute("aria-current", "location");
  else link.removeAttribute("aria-current");
}

const spy = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      // Sticky elements are always visible, so they do not count.
      if (!entry.isIntersecting || getComputedStyle(entry.target).position === "sticky") continue;
      for (const link of sections) mark(link, link.hash === `#${entry.target.id}`);
    }
  },
  { rootMargin: "-30% 0px -60% 0px" },
);
for (const link of sections) spy.observe(document.querySelector(link.hash));

function resetZoom() {
  charts.resetZoom();
  epochs.resetZoom();
}

const linkField = document.getElementById("view-link");
document.querySelector("[data-copy-view]").addEventListener("click", () => {
  const query = queryOf({ ...view.describe(), ...charts.describe() });
  linkField.value = new URL(`?${query}`, window.location.href);
  linkField.hidden = false;
  copyText(linkField);
});

shortcut("z", resetZoom);
document.querySelector("[data-reset-zoom]").addEventListener("click", resetZoom);
shortcut("f", () => output.toggle());

load();
