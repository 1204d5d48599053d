// A picture with the places of its crops.

const THINNEST = 1;
const THICKEST = 4;

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
  const outlined = "Outlined and numbered are the crops that the model looked at.";
  if (attention === 0) return outlined;
  const most = percentText(attention);
  return `${outlined} The thicker a line, the more attention, up to ${most}: one scale for all images.`;
}

function percent(part, whole) {
  return `${((100 * part) / whole).toFixed(3)}%`;
}

/** The outlines of a record's crops, to lie over its upright picture of any size. */
function outlines(record, orientation, scales) {
  const size = uprightSize(record.width, record.height, orientation);
  const crops = record.crops.map((crop, index) => {
    const place = uprightPlace(crop, record.width, record.height, orientation);
    return outline(place, size, strokeWidth(crop.attention, scales), index + 1);
  });
  return drawn("svg", { class: "outlines", "aria-hidden": "true" }, crops);
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
 */
function framed(image, record, orientation, scales) {
  const size = uprightSize(record.width, record.height, orientation);
  const frame = element("div", { class: "frame" }, image, outlines(record, orientation, scales));
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

/** What stands where there is no picture: the format by the file's suffix. */
function placeholder(path) {
  const suffix = /\.([A-Za-z0-9]{1,5})$/.exec(path || "");
  const label = suffix ? suffix[1].toUpperCase() : "?";
  return element(
    "div",
    { class: "placeholder" },
    element("span", { class: "format" }, label),
    element("span", {}, "no picture"),
  );
}
