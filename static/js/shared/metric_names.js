// The usual metrics, groups and parts of measurements in the reader's language, for names that are composed at run
// time.

import { gettext } from "./i18n.js";

const NAMES = new Map([
  ["Loss", gettext("Loss")],
  ["Accuracy", gettext("Accuracy")],
  ["Perplexity", gettext("Perplexity")],
  ["Train loss", gettext("Train loss")],
  ["Train accuracy", gettext("Train accuracy")],
  ["Train perplexity", gettext("Train perplexity")],
  ["Validation loss", gettext("Validation loss")],
  ["Validation accuracy", gettext("Validation accuracy")],
  ["Validation perplexity", gettext("Validation perplexity")],
  ["Learning rate", gettext("Learning rate")],
  ["Weight decay", gettext("Weight decay")],
  ["Dropout", gettext("Dropout")],
  ["Label smoothing", gettext("Label smoothing")],
  ["Gradient clip", gettext("Gradient clip")],
  ["Augment", gettext("Augment")],
  ["Temperature", gettext("Temperature")],
  ["Gradient norm", gettext("Gradient norm")],
  ["Samples per second", gettext("Samples per second")],
  ["Tokens per second", gettext("Tokens per second")],
  ["Step ms", gettext("Step ms")],
  ["Own ms", gettext("Own ms")],
  ["Data wait fraction", gettext("Data wait fraction")],
  ["CPU", gettext("CPU")],
  ["Worker cpu", gettext("Worker cpu")],
  ["Worker rss mib", gettext("Worker rss mib")],
  ["Disk free gib", gettext("Disk free gib")],
  ["Train", gettext("Train")],
  ["Validation", gettext("Validation")],
  ["Optimizer", gettext("Optimizer")],
  ["Speed", gettext("Speed")],
  ["Host", gettext("Host")],
  ["Layers", gettext("Layers")],
  ["training", gettext("training")],
  ["validation", gettext("validation")],
  ["used", gettext("used")],
  ["total", gettext("total")],
]);

/** Return whether a name has a text in the catalogue. */
export function isUsual(text) {
  return NAMES.has(text);
}

/** Return the name for people; an unknown name is unchanged. */
export function metricName(text) {
  return NAMES.get(text) ?? text;
}
