// Requests to the app's own routes.

import { toast } from "./dom.js";

const AWAY = "The app does not answer. Is it still running?";

/** @param {string} path Below the page's own address, which may be a folder of a proxy. */
const addressOf = (path) => new URL(path, document.baseURI);

/**
 * Reads JSON.
 * @param {string} path
 * @returns {Promise<*>}
 * @throws {Error} The app is away, or answered with an error.
 */
export async function fetchJSON(path) {
  const answer = await fetch(addressOf(path));
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

/**
 * Reads text, whatever the status.
 * @param {string} path
 * @returns {Promise<string>}
 * @throws {TypeError} The app is away.
 */
export async function fetchText(path) {
  return (await fetch(addressOf(path))).text();
}

/**
 * Asks for JSON where an error is an answer too: never throws, but gives `{error}`.
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Object>} With `error`, and `away` where nobody answered.
 */
export async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(addressOf(path), options);
  } catch {
    return { error: AWAY, away: true };
  }
  const body = await answer.json().catch(() => null);
  const failed = `The app answered ${answer.status}.`;
  if (!body) return { error: failed, away: true }; // a proxy answers for it
  return answer.ok || body.error ? body : { ...body, error: failed };
}

/**
 * Asks the app to do something; what it refuses is shown for a few seconds.
 * @param {string} path
 * @param {BodyInit} [body]
 * @returns {Promise<boolean>} Whether it was done.
 */
export async function post(path, body) {
  const { error } = await ask(path, { method: "POST", body });
  if (error) toast(error);
  return !error;
}

/**
 * Asks the app for a file that it has to make first, and saves it; what it refuses is shown for a few seconds.
 * @param {string} path
 * @param {string} name What the file is to be called.
 * @returns {Promise<void>}
 */
export async function save(path, name) {
  let answer;
  try {
    answer = await fetch(addressOf(path), { method: "POST" });
  } catch {
    toast(AWAY);
    return;
  }
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    toast(body.error || `The app answered ${answer.status}.`);
    return;
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // the browser may still be reading it
}

/**
 * Makes a function that does a work unless one is being done; errors wait for the next time, as when the app is away.
 * @returns {function(function(): Promise<void>): Promise<void>}
 */
export function oneAtATime() {
  let busy = false;
  return async (work) => {
    if (busy) return;
    busy = true;
    try {
      await work();
    } catch {
      // The page asks again with the next poll.
    } finally {
      busy = false;
    }
  };
}
