// Numbers, sizes and durations as text. What is not a number (null, NaN, infinite) becomes an empty text.

/** @type {[number, string][]} */
const COUNT_UNITS = [[1e9, "B"], [1e6, "M"], [1e3, "K"]];
/** @type {[number, string][]} */
const BYTE_UNITS = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]];

/**
 * A whole number with separators: `12,345`.
 * @param {?number} number
 * @returns {string}
 */
export function integer(number) {
  return Number.isFinite(number) ? Math.round(number).toLocaleString("en-US") : "";
}

/**
 * Three digits and a unit: `1.23 M`.
 * @param {?number} number
 * @returns {string}
 */
export function compact(number) {
  if (!Number.isFinite(number)) return "";
  for (const [size, unit] of COUNT_UNITS) {
    // The limit is where rounding to three digits reaches the unit: 999,600 is 1 M, not 1000 K.
    if (Math.abs(number) >= 0.9995 * size) return `${Number((number / size).toPrecision(3))} ${unit}`;
  }
  return String(Math.round(number));
}

/**
 * A size on a disk or in memory, in decimal units: `1.50 MB`.
 * @param {?number} size In bytes.
 * @returns {string}
 */
export function bytes(size) {
  if (!Number.isFinite(size)) return "";
  for (const [unit, name] of BYTE_UNITS) {
    const count = size / unit;
    if (Math.abs(count) >= 0.99995) return `${count.toFixed(Math.abs(count) < 9.995 ? 2 : 1)} ${name}`;
  }
  return `${Math.round(size)} B`;
}

/**
 * A share as per cent, with three digits below ten: `0.123 %`, `45.6 %`.
 * @param {?number} share From 0 to 1.
 * @returns {string}
 */
export function percent(share) {
  if (!Number.isFinite(share)) return "";
  const value = share * 100;
  return `${value >= 10 ? value.toFixed(1) : value.toPrecision(3)} %`.replace("100.0", "100");
}

/**
 * A duration: `4.2 s`, `3 min 5 s`, `2 h 10 min`.
 * @param {?number} seconds
 * @returns {string}
 */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/**
 * A number with a fixed count of decimals; from 100 on without.
 * @param {?number} number
 * @param {number} [digits]
 * @returns {string}
 */
export function decimal(number, digits = 3) {
  return Number.isFinite(number) ? number.toFixed(Math.abs(number) >= 100 ? 0 : digits) : "";
}

/**
 * A number with its noun: `1 row`, `2 rows`.
 * @param {number} number
 * @param {string} noun In the singular.
 * @returns {string}
 */
export function count(number, noun) {
  return `${integer(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/**
 * A power of ten times one digit that is not smaller than the value: 0.00123 is within `2e-3`.
 * @param {number} value Not negative.
 * @returns {string}
 */
export function upperBound(value) {
  if (value === 0) return "0";
  const power = Math.floor(Math.log10(value));
  const digit = Math.ceil(value / 10 ** power);
  return digit === 10 ? `1e${power + 1}` : `${digit}e${power}`;
}
