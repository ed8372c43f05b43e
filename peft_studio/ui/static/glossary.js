// Words explained. (Being written.)

/** @param {string} key A metric, a cost or the path of a setting. */
export const termOf = (key) => key.split(/[/.]/).at(-1);
