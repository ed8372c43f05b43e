// Making elements. Text always becomes text, never markup.

/**
 * Makes an element.
 * @param {string} tag
 * @param {Object<string, *>} [attributes] `onclick` and the like listen; `true` is an attribute without a value;
 *   `false`, null and undefined leave the attribute away.
 * @param {...(Node|string|null|undefined|false)} children
 * @returns {HTMLElement}
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") node.style.cssText = value;
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null && child !== false && child !== ""));
  return node;
}

/**
 * A button that looks like a link.
 * @param {string} text
 * @param {?string} label What it does, for those who cannot see its place.
 * @param {?function(Event): void} onclick
 * @param {Object<string, *>} [more] Further attributes.
 * @returns {HTMLElement}
 */
export function linkButton(text, label, onclick, more = {}) {
  const listener = onclick ? { onclick } : {};
  return el("button", { type: "button", class: "ps-link", "aria-label": label, ...listener, ...more }, text);
}

/**
 * A button that asks once more before it does its work.
 * @param {string} text
 * @param {string} label
 * @param {string} question Stands on the button for four seconds after the first click.
 * @param {function(): void} work
 * @param {Object<string, *>} [more] Further attributes.
 * @returns {HTMLElement}
 */
export function sureButton(text, label, question, work, more = {}) {
  const button = linkButton(text, label, () => {
    if (button.dataset.sure) {
      work();
      return;
    }
    button.dataset.sure = "1";
    button.textContent = question;
    setTimeout(() => {
      delete button.dataset.sure;
      button.textContent = text;
    }, 4000);
  }, more);
  return button;
}

/**
 * A form or group in place of the button that opened it; Escape and Cancel bring the button back.
 * @param {HTMLElement} button
 * @param {HTMLElement} form
 * @returns {function(): void} Closes it and focuses the button.
 */
export function openInPlace(button, form) {
  const close = () => {
    form.replaceWith(button);
    button.focus();
  };
  form.append(linkButton("Cancel", "Cancel", close));
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
  button.replaceWith(form);
  return close;
}

/**
 * What is wrong, in a frame.
 * @param {string} text
 * @param {Object<string, *>} [more] Further attributes.
 * @returns {HTMLElement}
 */
export const problem = (text, more = {}) => el("div", { class: "ps-problem", ...more }, text);

/**
 * The head of a card.
 * @param {string} title
 * @param {...(Node|string|null|false)} parts
 * @returns {HTMLElement}
 */
export const cardHead = (title, ...parts) => el("div", { class: "ps-cardhead" }, el("h2", {}, title), ...parts);

/** What pushes the following parts of a card's head to its end. */
export const spacer = () => el("span", { class: "grow" });

/**
 * The head of a table, one cell for each text.
 * @param {string[]} texts
 * @param {boolean} [titles] Whether a cell shows its whole text when pointed at.
 * @returns {HTMLElement}
 */
export function tableHead(texts, titles = false) {
  const cells = texts.map((text) => el("th", { scope: "col", title: titles ? text : null }, text));
  return el("thead", {}, el("tr", {}, ...cells));
}

/**
 * A place that scrolls sideways, also by keyboard.
 * @param {string} label
 * @param {Node} content
 * @returns {HTMLElement}
 */
export function scrollBox(label, content) {
  return el("div", { class: "ps-scroll", tabindex: "0", role: "region", "aria-label": label }, content);
}

/**
 * A bar that is filled in part.
 * @param {number} share From 0 to 1.
 * @param {?string} [colour]
 * @returns {HTMLElement}
 */
export function bar(share, colour = null) {
  const background = colour ? `;background:${colour}` : "";
  return el("div", { class: "ps-bar" }, el("i", { style: `width:${100 * share}%${background}` }));
}

/** A run's dot in its colour. */
export const dot = (colour) => el("i", { class: "ps-dot", style: `background:${colour}` });

const SVG = "http://www.w3.org/2000/svg";

/**
 * Makes an element of a drawing.
 * @param {string} tag
 * @param {Object<string, *>} attributes
 * @param {...Node} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const STROKES = { solid: "", dash: "5 3", dashdot: "7 3 2 3", longdash: "9 4" };

/** A run's curve in small: its colour and how it is broken. */
export const dash = (colour, kind) =>
  svg("svg", { class: "ps-dash", viewBox: "0 0 26 6", width: 26, height: 6, "aria-hidden": "true" },
    svg("path", { d: "M0 3h26", style: `stroke:${colour}`, "stroke-width": 3, "stroke-dasharray": STROKES[kind] }));

/**
 * The value of one of our colours, for what cannot read CSS variables.
 * @param {string} name Such as `--ps-line`.
 * @returns {string}
 */
export const token = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();

/**
 * Shows a sentence for six seconds.
 * @param {string} text
 */
export function toast(text) {
  const note = el("div", { class: "ps-toast", role: "status" }, text);
  document.body.append(note);
  setTimeout(() => note.remove(), 6000);
}

/**
 * Calls a function when an element changes its size while it is shown, as when its tab is opened.
 * @param {HTMLElement} node
 * @param {function(): void} work
 */
export function whenShown(node, work) {
  new ResizeObserver(() => {
    if (node.offsetParent) work();
  }).observe(node);
}

/**
 * A storage of the browser that may be forbidden.
 * @param {"localStorage"|"sessionStorage"} name
 * @param {string} key
 */
export function remembered(name, key) {
  return {
    /** @returns {string} What was set before, or an empty text. */
    get() {
      try {
        return window[name].getItem(key) || "";
      } catch {
        return "";
      }
    },
    /** @param {string} value */
    set(value) {
      try {
        window[name].setItem(key, value);
      } catch {
        // It then lasts as long as the page.
      }
    },
  };
}
