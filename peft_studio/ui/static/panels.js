// What opens under a line of a list, and stays there while the list is drawn anew.

/**
 * @param {function(): void} redraw Draws the list, which puts every panel under its line.
 */
export function panels(redraw) {
  const open = new Map(); // by id: panels by kind
  const close = (id, kind) => {
    open.get(id)?.delete(kind);
    redraw();
  };
  return {
    /**
     * Opens a panel, or closes it.
     * @param {string} id Of the line.
     * @param {string} kind Such as `details`.
     * @param {function(function(): void): HTMLElement} make Makes it; is given what closes it.
     */
    toggle(id, kind, make) {
      if (open.get(id)?.has(kind)) {
        close(id, kind);
        return;
      }
      const node = make(() => close(id, kind));
      if (!open.has(id)) open.set(id, new Map());
      open.get(id).set(kind, node);
      redraw();
      node.scrollIntoView({ block: "nearest" });
    },
    isOpen: (id, kind) => Boolean(open.get(id)?.has(kind)),
    /**
     * @param {string} id
     * @returns {HTMLElement[]}
     */
    under: (id) => [...(open.get(id)?.values() || [])],
    /** What is open, to see whether that has changed. */
    state: () => [...open].map(([id, kinds]) => [id, [...kinds.keys()]]),
  };
}

/**
 * Draws a list anew around panels that are left where they are, with what they hold scrolled and focused as it was.
 * @param {HTMLElement} list
 * @param {HTMLElement[]} nodes Lines and panels in their order.
 */
export function replaceAround(list, nodes) {
  const kept = new Set(nodes);
  for (const old of [...list.children]) if (!kept.has(old)) old.remove();
  let at = list.firstChild;
  for (const node of nodes) {
    if (node === at) at = at.nextSibling;
    else list.insertBefore(node, at);
  }
}
