// Where the names of points have room: beside their points, on no other point, and not on each other.

/** @typedef {{x: number, y: number, text: string}} Spot In pixels, from the plot's upper left corner. */

const LETTER = 6; // pixels, about, at the size of labels
const LINE = 14;
const GAP = 9; // between a point's middle and its name
const RADIUS = 6; // of a point

// By plotly's names, the likelier first: where a label of some width begins, seen from its point.
const PLACES = {
  "top center": (width) => [-width / 2, -GAP - LINE],
  "middle right": () => [GAP, -LINE / 2],
  "bottom center": (width) => [-width / 2, GAP],
  "middle left": (width) => [-GAP - width, -LINE / 2],
  "top right": () => [2, -GAP - LINE],
  "top left": (width) => [-2 - width, -GAP - LINE],
  "bottom right": () => [2, GAP],
  "bottom left": (width) => [-2 - width, GAP],
};

const overlap = (a, b) => a.x0 < b.x1 && b.x0 < a.x1 && a.y0 < b.y1 && b.y0 < a.y1;

/**
 * @param {Spot[]} spots Those that matter most first.
 * @param {number} width Of the plot.
 * @param {number} height
 * @returns {(?string)[]} For each spot where its label goes, as plotly names it; null where there is no room.
 */
export function placeLabels(spots, width, height) {
  const points = spots.map(({ x, y }) => ({ x0: x - RADIUS, x1: x + RADIUS, y0: y - RADIUS, y1: y + RADIUS }));
  const taken = [];
  return spots.map(({ x, y, text }, at) => {
    const wide = text.length * LETTER;
    const fits = (box) => box.x0 > -GAP && box.x1 < width + GAP && box.y0 > -LINE && box.y1 < height
      && !taken.some((other) => overlap(box, other)) && !points.some((point, i) => i !== at && overlap(box, point));
    for (const [place, corner] of Object.entries(PLACES)) {
      const [dx, dy] = corner(wide);
      const box = { x0: x + dx, x1: x + dx + wide, y0: y + dy, y1: y + dy + LINE };
      if (!fits(box)) continue;
      taken.push(box);
      return place;
    }
    return null;
  });
}

/**
 * Heights for labels in one column, each as near to its own as the others leave room for.
 * @param {number[]} heights In pixels, in any order.
 * @param {number} top
 * @param {number} bottom
 * @returns {number[]}
 */
export function spread(heights, top, bottom) {
  const order = heights.map((_height, at) => at).sort((a, b) => heights[a] - heights[b]);
  const found = [...heights];
  let free = top;
  for (const at of order) {
    found[at] = Math.max(heights[at], free);
    free = found[at] + LINE;
  }
  let limit = bottom;
  for (const at of order.reverse()) {
    found[at] = Math.min(found[at], limit);
    limit = found[at] - LINE;
  }
  return found;
}
