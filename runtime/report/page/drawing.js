// A picture with the places of its crops.

const THINNEST = 1;
const THICKEST = 4;
/** With more crops than these, outlines are all alike and have no numbers. */
const MOST_NUMBERED = { card: 32, details: 200 };

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
  if (records.some(({ crops }) => crops && crops.length > MOST_NUMBERED.card)) {
    sentences.push(
      `Of images with more than ${MOST_NUMBERED.card} crops, all lines are thin and without numbers.`,
    );
  }
  return sentences.join(" ");
}

function percent(part, whole) {
  return `${((100 * part) / whole).toFixed(3)}%`;
}

/** The outlines of a record's crops, to lie over its upright picture of any size. */
function outlines({ crops, width, height }, orientation, scales, mostNumbered) {
  const size = uprightSize(width, height, orientation);
  const places = crops.map((crop) => uprightPlace(crop, width, height, orientation));
  const attributes = { class: "outlines", "aria-hidden": "true" };
  if (crops.length > mostNumbered) return crowd(places, size, attributes);
  const numbered = places.map((place, index) =>
    outline(place, size, strokeWidth(crops[index].attention, scales), index + 1),
  );
  return drawn("svg", attributes, numbered);
}

/** Many outlines as one path, or they would be more elements than a browser can scroll. */
function crowd(places, size, attributes) {
  const view = { viewBox: `0 0 ${size.width} ${size.height}`, preserveAspectRatio: "none" };
  const rectangles = places.map(
    ({ left, top, width, height }) => `M${left} ${top}h${width}v${height}h${-width}z`,
  );
  const path = { d: rectangles.join(""), "vector-effect": "non-scaling-stroke" };
  return drawn(
    "svg",
    { ...attributes, ...view },
    drawn("path", { ...path, class: "halo", "stroke-width": 2 }),
    drawn("path", { ...path, class: "line", "stroke-width": 1 }),
  );
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
 * @param {number} mostNumbered one of MOST_NUMBERED
 */
function framed(image, { record, orientation }, scales, mostNumbered) {
  const size = uprightSize(record.width, record.height, orientation);
  const over = outlines(record, orientation, scales, mostNumbered);
  const frame = element("div", { class: "frame" }, image, over);
  frame.style.setProperty("--ratio", size.width / size.height);
  frame.style.setProperty("--most", `${size.width}px`);
  return frame;
}

/** An image element; without a source if the URL is not one that a page follows. */
function imageOf(url, alt) {
  const image = element("img", { alt, decoding: "async", draggable: "false" });
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
