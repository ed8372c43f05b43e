// Colours of runs. A run keeps the colour that it was given first.

const PALETTE = [
  "#4a67e0", "#12907f", "#d9822b", "#d64c6c", "#8458e8", "#4f8a10", "#1b8fc4", "#b0568f", "#8a6d3b", "#5f6b7d",
];

/**
 * Makes a function from an id to a colour; ids get the colours in the order in which they are first asked for.
 * @param {string[]} [palette] Is begun again when it is used up.
 * @returns {function(string): string}
 */
export function colourScale(palette = PALETTE) {
  const given = new Map();
  return (id) => {
    if (!given.has(id)) given.set(id, palette[given.size % palette.length]);
    return given.get(id);
  };
}

/** The colour of a run on this page. */
export const colourOf = colourScale();
