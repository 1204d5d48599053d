// Pictures to the server, and its records back.

const JUDGE = "v1/judge?influence=true&provenance=true";
const MOST_AT_ONCE = 4;
const MOST_TRIES = 6;
const LONGEST_PAUSE = 60; // seconds, which is also the most that the server asks for
const BUSY = 503;

/** Runs tasks in their order, at most so many at once. */
class Lanes {
  constructor(most) {
    Object.assign(this, { free: most, waiting: [] });
  }

  async run(task) {
    if (this.free > 0) this.free -= 1;
    else await new Promise((resolve) => this.waiting.push(resolve));
    try {
      return await task();
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.free += 1;
    }
  }
}

/** A record of a picture that has no verdict for a reason that the server did not write down. */
function failureOf(file, type, message) {
  return { path: file.name, status: "error", error: { type, message }, file: null };
}

/**
 * Have a picture judged; where the server is busy, wait as long as it says, up to LONGEST_PAUSE, and try again.
 * @param {File} file
 * @param {(sentence: string) => void} say is told what goes on
 * @param {AbortSignal} signal upon which nothing more is sent
 * @returns {Promise<object>} a record
 */
async function judged(file, say, signal) {
  for (let attempt = 1; ; attempt += 1) {
    say("being judged");
    const answer = await sent(file, signal);
    if (answer === null) {
      return failureOf(file, "NoAnswer", "the server could not be reached: choose the picture again.");
    }
    if (answer.status !== BUSY || attempt === MOST_TRIES) return recordOf(answer, file);
    const seconds = secondsToWait(answer);
    say(`The server is busy: try ${attempt + 1} of ${MOST_TRIES} in ${plural(seconds, "second")}.`);
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}

/** The server's answer; null without one. */
async function sent(file, signal) {
  const headers = { "Content-Type": file.type || "application/octet-stream" };
  try {
    return await fetch(JUDGE, { method: "POST", body: file, headers, signal });
  } catch {
    return null;
  }
}

function secondsToWait(answer) {
  const asked = Number.parseInt(answer.headers.get("Retry-After"), 10);
  return Math.min(Math.max(Number.isNaN(asked) ? 1 : asked, 1), LONGEST_PAUSE);
}

/** The record in an answer, with the file's name; an answer without one becomes a record. */
async function recordOf(answer, file) {
  const found = await answer.json().catch(() => null);
  if (["ok", "error"].includes(found?.status)) return { ...found, path: file.name };
  const sentence = typeof found?.error === "string" ? found.error : "the server did not say why.";
  return failureOf(file, `HTTP ${answer.status}`, sentence);
}
