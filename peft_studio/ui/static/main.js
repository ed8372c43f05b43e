// Where the page's scripts begin. Each of these draws the islands of its kind.

import "./words.js";
import "./header.js";
import "./bridge.js";
import "./figures.js";
import "./costs.js";
import "./preview.js";
import "./data.js";
import "./hub_models.js";
import "./hub_data.js";
import "./tabs.js";
import "./runs.js";
import "./sharing.js";
import "./mine.js";
import "./storage.js";
import "./compare.js";
import "./experiments.js";
import "./glossary_card.js";
import "./library.js";
import "./inside.js";
import "./room.js";
import "./room_student.js";
import { pointsDrawn } from "./chart.js";
import { generationStopped } from "./generate.js";
import { loadPlotly } from "./plot.js";
import { poll, pollSoon, stopAll, store } from "./run_store.js";

// The one name in the window: for Gradio's handlers, which are texts and cannot import, and for tests and benchmarks.
window.studio = Object.freeze({
  get runs() {
    return store.runs;
  },
  get queue() {
    return store.queue;
  },
  get selected() {
    return [...store.selected];
  },
  generationStopped,
  loadPlotly,
  pointsDrawn,
  pollSoon,
  stopAll,
});
poll();
