// Text and numbers as people read them.

const UNPRINTABLE =
  /[\0-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\u{e0000}-\u{e007f}]/gu;
const NAMED = { "\t": "\\t", "\n": "\\n", "\r": "\\r" };

/** Escape a character as Python does: \n, \x1b, \u202e, \U000e0041. */
function escapeCharacter(character) {
  const hex = character.codePointAt(0).toString(16);
  const [letter, digits] = hex.length <= 2 ? ["x", 2] : hex.length <= 4 ? ["u", 4] : ["U", 8];
  return NAMED[character] || `\\${letter}${hex.padStart(digits, "0")}`;
}

/** Escape what ends a line, drives a terminal, turns the direction of writing or is not seen. */
function printable(text) {
  return String(text).replace(UNPRINTABLE, escapeCharacter);
}

/** JSON with indents; its text has no invisible mark and is still the same JSON. */
function readableJson(value) {
  const escapeUnit = (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  const escape = (character) =>
    character === "\n" ? character : character.split("").map(escapeUnit).join("");
  return JSON.stringify(value, null, 2).replace(UNPRINTABLE, escape);
}

/**
 * P(fake) with four decimals, or as many as put it on its side of the threshold; never rounded to
 * certainty.
 */
function scoreText(score, threshold) {
  const limit = threshold ?? NaN; // which is on no side of anything
  if (score > 0.99995 && score < 1 && !(limit > 0.9999)) return ">0.9999";
  if (score < 0.00005 && score > 0 && !(limit < 0.0001)) return "<0.0001";
  const isTrue = (rounded) =>
    rounded >= limit === score >= limit && (rounded === score || (rounded > 0 && rounded < 1));
  let digits = 4;
  while (digits < 20 && !isTrue(Number(score.toFixed(digits)))) digits += 1;
  return score.toFixed(digits);
}

/** How far a score is from the threshold, and on which side. */
function distanceText(score, threshold) {
  const distance = Math.abs(score - threshold);
  if (distance === 0) return "none: the score is the threshold";
  const size = distance < 0.0001 ? "less than 0.0001" : distance.toFixed(4);
  return `${size} ${score >= threshold ? "above" : "below"}`;
}

/** A share from 0 to 1 in percent; never rounded to nothing. */
function percentText(share) {
  const percent = 100 * share;
  if (percent > 0 && percent < 0.05) return "<0.1%";
  return `${percent.toFixed(percent < 10 ? 1 : 0)}%`;
}

/** How a crop moved the score, in words. */
function influenceText(influence) {
  const size = Math.abs(influence);
  if (size < 0.001) return "changed P(fake) by less than 0.001";
  return `${influence > 0 ? "raised" : "lowered"} P(fake) by ${size.toFixed(3)}`;
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
