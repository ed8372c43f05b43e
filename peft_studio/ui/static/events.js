// What happens on the page, and who wants to know:
// `runs`, `selection`, `form`, `submitted`, `findings`, `warnings`, `theme`, `language`.

const listeners = new Map();

/**
 * Calls a function each time that something happens.
 * @param {string} event
 * @param {function(*): void} listener
 */
export function on(event, listener) {
  listeners.set(event, [...(listeners.get(event) || []), listener]);
}

/**
 * Tells all who listen.
 * @param {string} event
 * @param {*} [data]
 */
export function emit(event, data) {
  for (const listener of listeners.get(event) || []) listener(data);
}
