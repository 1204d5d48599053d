// The crops of an image, each in native pixels, with what it counted for.

/** Crops by number, or those first that moved the score most. */
const CROP_ORDERS = {
  number: { label: "by number", compare: (one, other) => one.number - other.number },
  influence: {
    label: "by influence",
    compare: (one, other) =>
      Math.abs(other.crop.influence || 0) - Math.abs(one.crop.influence || 0) ||
      one.number - other.number,
  },
};

/** What the two measures are, in plain words. */
const MEASURES =
  "Attention is a crop's weight in the verdict. Influence is by how much the score would differ " +
  "without the crop. Neither says what in a crop is real or not.";

/**
 * The part of an image's details that shows where the model looked.
 * @param {object} row of the report
 * @param {{attention: number, influence: number}} scales
 * @param {string} order a key of CROP_ORDERS
 * @param {HTMLImageElement|null} original decoded and upright, if it can be used
 */
function cropFigures(row, scales, order, original) {
  const crops = row.record.crops.map((crop, index) => ({ crop, number: index + 1 }));
  crops.sort(CROP_ORDERS[order].compare);
  const figures = crops.map((entry) => cropFigure(row, scales, entry, original));
  return element("div", { class: "crops" }, figures);
}

function cropFigure(row, scales, { crop, number }, original) {
  const stored = row.orientation === 1 ? "" : " as stored";
  const place = `left ${crop.left}, top ${crop.top}${stored}`;
  const caption = element(
    "figcaption",
    {},
    element("strong", {}, `Crop ${number}`),
    element("div", { class: "quiet" }, `${crop.width} × ${crop.height} at ${place}`),
    attentionMeter(crop.attention, scales),
    influenceMeter(crop.influence, scales),
  );
  const cut = nativePixels(row, crop, number, original);
  return element("figure", { class: "crop", "data-crop": number }, cut, caption);
}

/** A crop's own pixels, one to one; a preview of them; or nothing. */
function nativePixels(row, crop, number, original) {
  const label = `crop ${number}, native pixels`;
  if (original !== null) return cutOut(row, crop, original, label);
  const preview = row.previews[number - 1];
  if (preview === undefined || pictureUrl(preview) === null) return null;
  return element("div", { class: "pixels" }, imageOf(preview, label));
}

function cutOut({ record, orientation }, crop, original, label) {
  const place = uprightPlace(crop, record.width, record.height, orientation);
  const canvas = element("canvas", { role: "img", "aria-label": label });
  canvas.width = place.width;
  canvas.height = place.height;
  const { left, top, width, height } = place;
  canvas.getContext("2d").drawImage(original, left, top, width, height, 0, 0, width, height);
  return element("div", { class: "pixels" }, canvas);
}

function attentionMeter(attention, scales) {
  if (attention === null) return null;
  const share = scales.attention > 0 ? attention / scales.attention : 0;
  const bar = drawn("rect", { class: "bar", x: 0, y: 0, width: percent(share, 1), height: 8 });
  return meter("attention", `attention ${percentText(attention)}`, [bar]);
}

function influenceMeter(influence, scales) {
  if (influence === null) return null;
  const half = scales.influence > 0 ? Math.abs(influence) / scales.influence / 2 : 0;
  const side = influence < 0 ? "lowered" : "raised";
  const bar = drawn("rect", {
    class: `bar ${side}`,
    x: percent(influence < 0 ? 0.5 - half : 0.5, 1),
    y: 0,
    width: percent(half, 1),
    height: 8,
  });
  const middle = drawn("line", { class: "middle", x1: "50%", x2: "50%", y1: -2, y2: 10 });
  return meter("influence", influenceText(influence), [bar, middle]);
}

function meter(kind, words, shapes) {
  const ground = drawn("rect", { class: "ground", width: "100%", height: 8 });
  const svg = drawn("svg", { class: "meter", height: 8, "aria-hidden": "true" }, ground, shapes);
  return element("div", { class: kind }, svg, element("span", {}, words));
}

/** What must be said of an image's crops, each a sentence. */
function cropNotes({ record, previews }, scales, original) {
  const { crops } = record;
  if (crops.length === 0) return ["The detector looked at the whole image, resized. It cut no crop."];
  const notes = crops.some((crop) => crop.influence !== null) ? [MEASURES] : [];
  if (crops.every((crop) => crop.attention === null)) notes.push("This detector has no attention.");
  if (crops.every((crop) => crop.influence === null)) notes.push(influenceMissing(crops.length));
  if (original === null) {
    const found = previews.length > 0;
    notes.push(
      found
        ? "The crops are previews, slightly compressed: native pixels need the original file."
        : "To see the crops in native pixels, the original file is needed.",
    );
  }
  if (scales.attention > 0 || scales.influence > 0) notes.push(scaleNote(scales));
  return notes;
}

function influenceMissing(count) {
  return count === 1
    ? "There is no other crop, so how this one moved the score is not known."
    : "How each crop moved the score was not computed: glass-run --influence does.";
}

function scaleNote({ attention, influence }) {
  const ends = [];
  if (attention > 0) ends.push(`a full bar of attention is ${percentText(attention)}`);
  if (influence > 0) ends.push(`a full half of influence is ${pointsText(influence)}`);
  return `One scale for all images of this page: ${ends.join(", ")}.`;
}
