// Finding a text's translation: as a whole, by a template with `{0}`, or in parts.

const HOLE = /\{(\d+)\}/;
const SENTENCE = /(?<=[.?!]) (?=[A-Z“'"‘0-9])/;
const MOST_DEEP = 4; // a text within a text within a text

const wordsIn = (text) => text.match(/[A-Za-z]{2,}/g) || [];
const escaped = (text) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");

/** A template of the dictionary, ready to be compared with texts. */
function compiled(source, target) {
  const pieces = source.split(/\{\d+\}/);
  const whole = pieces.join("\u0001").match(/(?<![A-Za-z\u0001])[A-Za-z]{2,}(?![A-Za-z\u0001])/g) || [""];
  return {
    target,
    anchor: whole.reduce((longest, word) => (word.length > longest.length ? word : longest)),
    weight: pieces.join("").length,
    pattern: new RegExp(`^${pieces.map(escaped).join("([\\s\\S]*?)")}$`),
  };
}

/** Templates by a word that a text must have for them. */
function indexed(table) {
  const index = new Map();
  for (const [source, target] of Object.entries(table)) {
    if (!HOLE.test(source)) continue;
    const one = compiled(source, target);
    index.set(one.anchor, [...(index.get(one.anchor) || []), one]);
  }
  return index;
}

const isWide = (text, at) => /[\u3000-\u9fff\uff00-\uffef]/.test(text.at(at) || "");

/** Sentences in a row: Chinese ones without a space between. */
const joined = (first, then) => (isWide(first, -1) && isWide(then, 0) ? first + then : `${first} ${then}`);

/**
 * Makes a translator.
 * @param {Object<string, string>} table Translations by their English text; `{0}`, `{1}` stand for what differs.
 * @returns {function(string): string} Gives a text back as it is where nothing fits.
 */
export function template(table) {
  const index = indexed(table);

  function fitting(text, depth) {
    const found = ["", ...new Set(wordsIn(text))].flatMap((word) => index.get(word) || []);
    for (const { pattern, target } of found.sort((a, b) => b.weight - a.weight)) {
      const match = pattern.exec(text);
      if (match) return target.replace(/\{(\d+)\}/g, (_, at) => translated(match[1 + Number(at)] ?? "", depth + 1));
    }
    return null;
  }

  function whole(text, depth) {
    if (Object.hasOwn(table, text)) return table[text];
    return depth < MOST_DEEP ? fitting(text, depth) : null;
  }

  /** The longest beginning, in whole sentences, that has a translation; then the rest. */
  function inSentences(text, depth) {
    const parts = text.split(SENTENCE);
    if (parts.length < 2 || depth >= MOST_DEEP) return null;
    for (let end = parts.length - 1; end > 0; end -= 1) {
      const first = whole(parts.slice(0, end).join(" "), depth);
      if (first != null) return joined(first, translated(parts.slice(end).join(" "), depth));
    }
    return joined(parts[0], translated(parts.slice(1).join(" "), depth));
  }

  function translated(text, depth = 0) {
    if (!/[A-Za-z]/.test(text)) return text;
    const found = whole(text, depth);
    if (found != null) return found;
    if (text.includes(" · ")) return text.split(" · ").map((part) => translated(part, depth + 1)).join(" · ");
    return inSentences(text, depth) ?? text;
  }
  return translated;
}
