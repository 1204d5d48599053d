// Text and numbers as people read them.

const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;
const NAMED = { "\t": "\\t", "\n": "\\n", "\r": "\\r" };

/** Escape a character as Python does: \n, \x1b, \u202e. */
function escapeCharacter(character) {
  const code = character.charCodeAt(0);
  const digits = code < 0x100 ? 2 : 4;
  const hex = code.toString(16).padStart(digits, "0");
  return NAMED[character] || (digits === 2 ? `\\x${hex}` : `\\u${hex}`);
}

/** Escape what ends a line, drives a terminal or turns the direction of writing. */
function printable(text) {
  return String(text).replace(UNPRINTABLE, escapeCharacter);
}

/** JSON with indents; its text has no invisible mark and is still the same JSON. */
function readableJson(value) {
  const escape = (character) =>
    character === "\n"
      ? character
      : `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(value, null, 2).replace(UNPRINTABLE, escape);
}

/** P(fake) with four decimals; never rounded to certainty. */
function scoreText(score) {
  if (score > 0.99995 && score < 1) return ">0.9999";
  if (score < 0.00005 && score > 0) return "<0.0001";
  return score.toFixed(4);
}

/** A share from 0 to 1 in percent. */
function percentText(share) {
  const percent = 100 * share;
  return `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
}

/** A difference of probabilities in percentage points, without its sign. */
function pointsText(difference) {
  const points = Math.abs(100 * difference).toFixed(1);
  return points === "0.0" ? "less than 0.1 points" : `${points} points`;
}

/** How a crop moved the score, in words. */
function influenceText(influence) {
  if (Math.abs(influence) < 0.0005) return "moved P(fake) by less than 0.1 points";
  return `${influence > 0 ? "raised" : "lowered"} P(fake) by ${pointsText(influence)}`;
}

/** A whole number with separators: 12,345. */
function countText(number) {
  return number.toLocaleString("en-US");
}

/** A number of bytes with a unit that keeps it short. */
function bytesText(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  let unit = 0;
  let value = bytes;
  for (; value >= 1000 && unit < units.length - 1; unit += 1) value /= 1000;
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** A moment in UTC, ISO 8601, to the second. */
function momentText(moment) {
  const parts = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)$/.exec(moment);
  return parts ? `${parts[1]} ${parts[2]} UTC` : moment;
}

/** "1 crop", "4 crops". */
function plural(number, noun) {
  return `${countText(number)} ${noun}${number === 1 ? "" : "s"}`;
}
