// A picture with the places of its crops.

const THINNEST = 1;
const THICKEST = 4;
/** How many crops are outlined: more would hide the picture. */
const MOST_OUTLINED = { card: 32, details: 100 };

/**
 * What the strongest stroke and the longest bars stand for: one scale for all images of a page.
 * @param {Iterable<object>} records
 * @returns {{attention: number, influence: number}}
 */
function scalesOf(records) {
  const scales = { attention: 0, influence: 0 };
  for (const record of records) {
    for (const crop of record.crops || []) {
      scales.attention = Math.max(scales.attention, crop.attention || 0);
      scales.influence = Math.max(scales.influence, Math.abs(crop.influence || 0));
    }
  }
  return scales;
}

/** The width of a crop's outline in pixels; the thinnest where there is no attention. */
function strokeWidth(attention, scales) {
  if (attention === null || scales.attention === 0) return THINNEST;
  return THINNEST + ((THICKEST - THINNEST) * attention) / scales.attention;
}

/** What the outlines over pictures are, in a sentence; empty if no record has crops. */
function legendText(records, { attention }) {
  if (!records.some(({ crops }) => crops && crops.length > 0)) return "";
  const sentences = ["The crops that the model looked at are outlined and numbered."];
  if (attention > 0) {
    const most = percentText(attention);
    sentences.push(
      `The thicker a line, the more attention, up to ${most}: one scale for all images.`,
    );
  }
  if (records.some(({ crops }) => crops && crops.length > MOST_OUTLINED.card)) {
    const which = outlinedText(MOST_OUTLINED.card, attention);
    sentences.push(`Where there are more than ${MOST_OUTLINED.card}, only ${which}.`);
  }
  return sentences.join(" ");
}

/** Which crops are outlined if not all are. */
function outlinedText(most, attention) {
  return `the ${most} ${attention > 0 ? "with the most attention" : "first"} are outlined`;
}

function percent(part, whole) {
  return `${((100 * part) / whole).toFixed(3)}%`;
}

/** The outlines of a record's crops, to lie over its upright picture of any size. */
function outlines({ crops, width, height }, orientation, scales, most) {
  const size = uprightSize(width, height, orientation);
  const drawnCrops = mostAttended(crops, most).map(({ crop, number }) => {
    const place = uprightPlace(crop, width, height, orientation);
    return outline(place, size, strokeWidth(crop.attention, scales), number);
  });
  return drawn("svg", { class: "outlines", "aria-hidden": "true" }, drawnCrops);
}

/** As many crops as may be outlined, by number; the first where there is no attention. */
function mostAttended(crops, most) {
  const numbered = crops.map((crop, index) => ({ crop, number: index + 1 }));
  if (numbered.length <= most) return numbered;
  numbered.sort((one, other) => (other.crop.attention || 0) - (one.crop.attention || 0));
  return numbered.slice(0, most).sort((one, other) => one.number - other.number);
}

function outline(place, size, width, number) {
  const rectangle = {
    x: percent(place.left, size.width),
    y: percent(place.top, size.height),
    width: percent(place.width, size.width),
    height: percent(place.height, size.height),
  };
  return drawn(
    "g",
    { "data-crop": number },
    drawn("rect", { ...rectangle, class: "halo", "stroke-width": (width + 2).toFixed(2) }),
    drawn("rect", { ...rectangle, class: "line", "stroke-width": width.toFixed(2) }),
    drawn("text", { x: rectangle.x, y: rectangle.y, dx: 5, dy: 13 }, number),
  );
}

/**
 * A picture of an image with its crops, scaled to fit where it is put.
 * @param {HTMLImageElement} image upright
 * @param {object} row of the report
 * @param {{attention: number, influence: number}} scales
 * @param {number} most one of MOST_OUTLINED
 */
function framed(image, { record, orientation }, scales, most) {
  const size = uprightSize(record.width, record.height, orientation);
  const over = outlines(record, orientation, scales, most);
  const frame = element("div", { class: "frame" }, image, over);
  frame.style.setProperty("--ratio", size.width / size.height);
  frame.style.setProperty("--most", `${size.width}px`);
  return frame;
}

/**
 * An image element; without a source if the URL is not one that a page follows.
 * @param {string} url
 * @param {string} alt
 * @param {"eager" | "lazy"} loading lazy for whole files, of which many may be far from the screen
 */
function imageOf(url, alt, loading = "eager") {
  const image = element("img", { alt, loading, decoding: "async", draggable: "false" });
  const checked = pictureUrl(url);
  if (checked !== null) image.src = checked;
  return image;
}

/** What stands where there is no picture: the format by the file's suffix, and some words. */
function placeholder(path, words = "no picture") {
  const suffix = /\.([A-Za-z0-9]{1,5})$/.exec(path || "");
  const label = suffix ? suffix[1].toUpperCase() : "?";
  return element(
    "div",
    { class: "placeholder" },
    element("span", { class: "format" }, label),
    element("span", {}, words),
  );
}
