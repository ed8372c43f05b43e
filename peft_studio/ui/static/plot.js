// plotly.js, loaded when it is first needed, and how its charts look here.

import { el, scrollBox, token, whenShown } from "./dom.js";
import { plotText } from "./text.js";
import { t } from "./words.js";

let loading;

/**
 * Loads plotly.js once.
 * @returns {Promise<Object>} Plotly.
 */
export function loadPlotly() {
  loading ||= new Promise((resolve, reject) => {
    const earlier = window.Plotly; // Gradio may bring a copy of its own
    const script = el("script", { src: new URL("studio/static/plotly.min.js", document.baseURI).href });
    script.onload = () => {
      resolve(window.Plotly);
      if (earlier) window.Plotly = earlier;
    };
    script.onerror = () => {
      loading = undefined;
      reject(new Error("plotly.js could not be loaded"));
    };
    document.head.append(script);
  });
  return loading;
}

/**
 * Has a chart fill its place whenever it is seen again: plotly misses a window that changes while the chart is hidden.
 * @param {HTMLElement} plot
 */
export function fitWhenShown(plot) {
  let width = 0;
  whenShown(plot, async () => {
    if (plot.clientWidth === width) return;
    width = plot.clientWidth;
    if (plot.classList.contains("js-plotly-plot")) (await loadPlotly()).Plots.resize(plot);
  });
}

/**
 * The table behind a plot, which is made when somebody opens it.
 * @param {function(): ?HTMLElement} make
 * @returns {{node: HTMLElement, update: function(): void}} `update` makes it anew if it is open.
 */
export function behind(make) {
  const body = el("div");
  const node = el("details", { class: "ps-behind" }, el("summary", {}, "The figures as a table"), body);
  const update = () => {
    const table = node.open && make();
    body.replaceChildren(...(table ? [scrollBox("The figures as a table", table)] : []));
  };
  node.addEventListener("toggle", update);
  return { node, update };
}

const axis = (title) => ({
  title: { text: plotText(t(title)), standoff: 8, font: { size: 12 } },
  gridcolor: token("--ps-line2"),
  linecolor: token("--ps-line"),
  zeroline: false,
  automargin: true,
  ticks: "",
});

/**
 * A layout in the colours of the page as they are now.
 * @param {string} xTitle
 * @param {string} yTitle
 * @param {string} uirevision Zoom and pan stay as long as it is the same.
 * @returns {Object}
 */
export function plotLayout(xTitle, yTitle, uirevision) {
  return {
    uirevision,
    margin: { l: 48, r: 14, t: 8, b: 42 },
    showlegend: false,
    hovermode: "closest",
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "IBM Plex Sans, system-ui, sans-serif", size: 12, color: token("--ps-ink2") },
    hoverlabel: {
      bgcolor: token("--ps-card"),
      bordercolor: token("--ps-line"),
      font: { color: token("--ps-ink"), size: 12 },
    },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: token("--ps-ink3"), activecolor: token("--ps-acc") },
    xaxis: axis(xTitle),
    yaxis: axis(yTitle),
  };
}

export const PLOT_CONFIG = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false,
  plotlyServerURL: "",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
};
