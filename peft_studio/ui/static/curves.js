// Curves as columns of numbers: joined, smoothed and thinned. Gaps (losses that were not finite) are null.

/** @typedef {Object<string, (?number)[]>} Columns Columns of equal length, such as `step` and `loss`. */

const MAX_POINTS = 1200; // of a curve on screen; more cannot be told apart

/**
 * Adds new points at the end of a curve.
 * @param {Columns} curve Is changed.
 * @param {Columns} more
 */
export function append(curve, more) {
  for (const key of Object.keys(more)) {
    const column = (curve[key] ||= []);
    for (const value of more[key]) column.push(value);
  }
}

/**
 * Exponential moving average, corrected for its start as in Adam; gaps stay gaps.
 * @param {(?number)[]} values
 * @param {number} weight Of what came before, from 0 (nothing changes) to below 1.
 * @returns {(?number)[]}
 */
export function smoothed(values, weight) {
  let mean = 0;
  let total = 0;
  return values.map((value) => {
    if (!Number.isFinite(value)) return null;
    mean = weight * mean + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return mean / total;
  });
}

/**
 * Keeps the lowest and the highest point of every bucket, and the first and the last point of the curve.
 * @param {number[]} xs
 * @param {(?number)[]} ys As long as `xs`.
 * @param {number} [limit] How many points are about to stay.
 * @returns {[number[], (?number)[]]}
 */
export function thinned(xs, ys, limit = MAX_POINTS) {
  if (xs.length <= limit) return [xs, ys];
  const keep = new Set([0, xs.length - 1]);
  const width = xs.length / (limit / 2);
  for (let bucket = 0; bucket * width < xs.length; bucket += 1) {
    const from = Math.floor(bucket * width);
    const [low, high] = extremes(ys, from, Math.min(xs.length, (bucket + 1) * width));
    if (low >= 0) keep.add(low).add(high);
  }
  const order = [...keep].sort((a, b) => a - b);
  return [order.map((i) => xs[i]), order.map((i) => ys[i])];
}

/** Places of the lowest and the highest value from one place to before another; -1 where all are gaps. */
function extremes(values, from, to) {
  let low = -1;
  let high = -1;
  for (let i = from; i < to; i += 1) {
    if (!Number.isFinite(values[i])) continue;
    if (low < 0 || values[i] < values[low]) low = i;
    if (high < 0 || values[i] > values[high]) high = i;
  }
  return [low, high];
}

/**
 * Where on a curve a step is: the first point at or after it, or the last point; at a gap, the point before it.
 * @param {Columns} curve With the columns `step` and `loss`, not empty.
 * @param {number} step
 * @returns {{at: number, valueAt: number}} The place on the axis, and the place whose loss is shown there.
 */
export function placeOf(curve, step) {
  const found = curve.step.findIndex((item) => item >= step);
  const at = found < 0 ? curve.step.length - 1 : found;
  let valueAt = at;
  while (valueAt > 0 && curve.loss[valueAt] == null) valueAt -= 1;
  return { at, valueAt };
}
