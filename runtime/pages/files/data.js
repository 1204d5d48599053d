// What the page holds: the head, and an item for each image.

/**
 * @typedef {object} Item
 * @property {number} index in the order of the page
 * @property {object} row as the page holds it
 * @property {object} record
 * @property {string} kind "fake", "real", "other" or "error"
 * @property {string} name the path as people may see it
 * @property {number|null} score
 * @property {string|null} scoreText the score as people read it
 * @property {number|null} distance to the threshold
 */

function readReport() {
  const { head, rows } = pageData();
  return { head, items: rows.map((row, index) => itemOf(row, index, head)) };
}

/** What the page was given as JSON. */
function pageData() {
  return JSON.parse(document.getElementById("page-data").textContent);
}

/**
 * @param {object} row
 * @param {number} index
 * @param {object} head `threshold`, `fake_class` and `real_class` are used
 * @returns {Item}
 */
function itemOf(row, index, head) {
  const { record } = row;
  const failed = record.status === "error";
  const score = failed ? null : record.score;
  return {
    index,
    row,
    record,
    kind: failed ? "error" : kindOf(record.verdict, head),
    name: nameOf(record, index),
    score,
    scoreText: failed ? null : scoreText(score, head.threshold),
    distance: failed || head.threshold === null ? null : Math.abs(score - head.threshold),
  };
}

function kindOf(verdict, head) {
  if (verdict === head.fake_class) return "fake";
  return verdict === head.real_class ? "real" : "other";
}

function nameOf(record, index) {
  return record.path === null ? `image ${index + 1}` : printable(record.path);
}

/** What search looks in: path, claims and error, as `searchable` makes them. */
function searchedText(item) {
  const { record } = item;
  const parts = [item.name, record.path || ""];
  if (record.status === "error") parts.push(record.error.type, record.error.message);
  parts.push(...claimedTexts(record.provenance));
  return searchable(parts.join("\n"));
}

/** Text in which case and the way accents are composed make no difference. */
function searchable(text) {
  return text.normalize("NFC").toLowerCase();
}

/** What an image is, in a line: its path, verdict and score, or its error. */
function summaryOf(item) {
  const { record } = item;
  if (record.status === "error") return `${item.name}: error, ${record.error.message}`;
  return `${item.name}: ${record.verdict}, P(fake) ${item.scoreText}`;
}
