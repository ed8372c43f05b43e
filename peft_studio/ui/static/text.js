// Searching in texts, and texts in places that would read them as markup.

/**
 * The words of a search, in lower case.
 * @param {string} query
 * @returns {string[]}
 */
export function wordsOf(query) {
  return query.toLowerCase().split(/\s+/).filter(Boolean);
}

/**
 * Whether every word of a search is somewhere in a text.
 * @param {string} text
 * @param {string[]} words As `wordsOf` gives them.
 * @returns {boolean}
 */
export function hasWords(text, words) {
  const found = text.toLowerCase();
  return words.every((word) => found.includes(word));
}

/**
 * A text as plotly shows it letter by letter; plotly reads `<b>` and `<a href>` in its labels as markup, and what is
 * between two `$` as a formula.
 * @param {string} text
 * @returns {string}
 */
export function plotText(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/\$/g, "&#36;");
}

/**
 * The same, broken into lines of about 40 letters.
 * @param {string} text
 * @returns {string}
 */
export function plotLines(text) {
  return String(text).replace(/(.{30,54}?) /g, "$1\n").split("\n").map(plotText).join("<br>");
}

/**
 * A text that is not longer than so many letters; what is cut away is marked.
 * @param {string} text
 * @param {number} most
 * @returns {string}
 */
export const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** Titles of metrics, as papers write them. */
export const METRICS = {
  bleu: "BLEU", chrf: "chrF", rouge1: "ROUGE-1", rouge2: "ROUGE-2", rougeL: "ROUGE-L", macro_f1: "Macro F1",
  slot_accuracy: "Slots right, %", slots_exact: "All slots right, %", name_accuracy: "Names right, %",
  accuracy: "Accuracy, %",
};

/**
 * A name of a metric as words: `slot_accuracy` is `Slot accuracy`.
 * @param {string} name
 * @returns {string}
 */
export function sentenceCase(name) {
  return (name.charAt(0).toUpperCase() + name.slice(1)).replace(/_/g, " ");
}
