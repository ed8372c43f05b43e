// Islands: places in Gradio's page that a script of ours draws. `shell.py` makes them and has each call `mount`.

/**
 * @typedef {Object} Island
 * @property {HTMLElement} element The component that holds it.
 * @property {{value: *}} props What Python has set; changes with time.
 * @property {function(string, function(): void): void} watch Calls a function when a property has changed.
 * @property {function(string, Object=): void} trigger Tells Python that something happened.
 */

/** @type {Map<string, function(HTMLElement, Island): void>} */
const makers = new Map();
/** @type {Island[]} */
let waiting = [];

/**
 * Registers how islands of a kind are drawn. Those that are waiting for it are drawn at once.
 * @param {string} kind
 * @param {function(HTMLElement, Island): void} make
 */
export function island(kind, make) {
  makers.set(kind, make);
  const before = waiting;
  waiting = [];
  before.forEach(mount);
}

/**
 * Registers an island that shows its value: drawn for each value that is not empty, at the start and when it changes.
 * @param {string} kind
 * @param {function(HTMLElement, *): void} draw
 */
export function valueIsland(kind, draw) {
  island(kind, (root, item) => {
    const update = () => {
      if (item.props.value) draw(root, item.props.value);
    };
    item.watch("value", update);
    update();
  });
}

/**
 * Draws an island, or keeps it until its script is there.
 * @param {Island} item
 */
export function mount(item) {
  const root = item.element.querySelector("[data-island]");
  const make = root && makers.get(root.dataset.island);
  if (make) make(root, item);
  else waiting.push(item);
}
