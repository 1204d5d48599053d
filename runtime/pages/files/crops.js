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
  "Attention is a crop's weight in the verdict. Influence is how much P(fake) would change " +
  "without the crop. Neither says what in a crop is real or made.";

const MOST_PRINTED_CROPS = 64;

/** The part of an image's details that shows where the model looked. */
class CropSection {
  /**
   * @param {object} row of the report
   * @param {{attention: number, influence: number}} scales
   * @param {string} order a key of CROP_ORDERS
   * @param {HTMLElement} scroller in which the section lies
   * @param {AbortSignal} signal upon which all pixels are dropped
   */
  constructor(row, scales, order, scroller, signal) {
    Object.assign(this, { row, scales, cutter: new Cutter(scroller, signal) });
    const { crops } = row.record;
    this.entries = crops.map((crop, index) => cropEntry(row, scales, crop, index + 1));
    this.notes = element("p", { class: "quiet" });
    this.list = element("div", { class: "crops" });
    const influences = crops.some(({ influence }) => influence !== null);
    const ending = influences ? ", and how each crop moved the score" : "";
    this.element = element(
      "section",
      { class: "looked" },
      element("h3", {}, `Where the model looked${ending}`),
      this.notes,
      influences ? this.orderButtons() : null,
      this.list,
    );
    this.orderBy(order);
    this.showPixels(null);
  }

  orderButtons() {
    const choices = Object.entries(CROP_ORDERS).map(([order, { label }]) =>
      button(label, () => this.orderBy(order), { "data-order": order }),
    );
    return element("div", { class: "orders", role: "group", "aria-label": "Order" }, choices);
  }

  orderBy(order) {
    this.order = order;
    this.entries.sort(CROP_ORDERS[order].compare);
    this.list.append(...this.entries.map(({ figure }) => figure));
    for (const choice of this.element.querySelectorAll("[data-order]")) {
      choice.setAttribute("aria-pressed", choice.dataset.order === order);
    }
  }

  /**
   * Show the crops in native pixels; without the original their previews, if there are any.
   * @param {HTMLImageElement|null} original decoded and upright
   */
  showPixels(original) {
    this.notes.textContent = cropNotes(this.row, this.scales, original).join(" ");
    for (const entry of this.entries) {
      const shown = original ? this.cutter.canvas(original, entry) : previewOf(this.row, entry);
      entry.pixels.hidden = shown === null;
      entry.pixels.replaceChildren(shown ?? "");
    }
  }
}

/** Cuts crops out of an original while they are near the screen: all at once may be gigabytes. */
class Cutter {
  constructor(scroller, signal) {
    this.cuts = new Map();
    this.near = new Set();
    this.observer = new IntersectionObserver((changes) => this.changed(changes), {
      root: scroller,
      rootMargin: "600px 0px",
    });
    addEventListener("beforeprint", () => this.drawForPaper(), { signal });
    addEventListener("afterprint", () => this.erase((canvas) => !this.near.has(canvas)), { signal });
    signal.addEventListener("abort", () => {
      this.observer.disconnect();
      this.erase(() => true);
    });
  }

  canvas(original, { place, label }) {
    const canvas = element("canvas", { role: "img", "aria-label": label, width: 0, height: 0 });
    canvas.style.width = `${place.width}px`;
    canvas.style.height = `${place.height}px`;
    this.cuts.set(canvas, { original, place });
    this.observer.observe(canvas);
    return canvas;
  }

  changed(changes) {
    for (const { target, isIntersecting } of changes) {
      if (isIntersecting) {
        this.near.add(target);
        this.draw(target);
      } else {
        this.near.delete(target);
        target.width = 0;
      }
    }
  }

  draw(canvas) {
    if (canvas.width > 0) return;
    const { original, place } = this.cuts.get(canvas);
    const { left, top, width, height } = place;
    Object.assign(canvas, { width, height });
    canvas.getContext("2d").drawImage(original, left, top, width, height, 0, 0, width, height);
  }

  drawForPaper() {
    const shown = document.querySelectorAll(".crop canvas");
    Array.from(shown).slice(0, MOST_PRINTED_CROPS).forEach((canvas) => this.draw(canvas));
  }

  erase(chosen) {
    for (const canvas of this.cuts.keys()) if (chosen(canvas)) canvas.width = 0;
  }
}

/** A crop's figure, and the box in it for pixels. */
function cropEntry(row, scales, crop, number) {
  const { record, orientation } = row;
  const stored = orientation === 1 ? "" : " as stored";
  const label = `crop ${number}, native pixels`;
  const caption = element(
    "figcaption",
    {},
    element("strong", {}, `Crop ${number}`),
    element(
      "div",
      { class: "quiet" },
      `${crop.width} × ${crop.height} at left ${crop.left}, top ${crop.top}${stored}`,
    ),
    attentionMeter(crop.attention, scales),
    influenceMeter(crop.influence, scales),
  );
  const pixels = element("div", { class: "pixels", role: "group", "aria-label": label });
  reachedIfScrolled(pixels);
  const figure = element("figure", { class: "crop", "data-crop": number }, pixels, caption);
  const place = uprightPlace(crop, record.width, record.height, orientation);
  return { crop, number, label, place, pixels, figure };
}

function previewOf({ record, previews }, { number, label }) {
  const preview = previews[number - 1];
  if (preview === undefined || pictureUrl(preview) === null) return null;
  const image = imageOf(preview, label);
  const missing = placeholder(record.path, "The preview could not be loaded.");
  image.addEventListener("error", () => image.replaceWith(missing));
  return image;
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
  if (crops.length > MOST_OUTLINED.details) {
    const which = outlinedText(MOST_OUTLINED.details, scales.attention);
    notes.push(`In the picture only ${which}.`);
  }
  if (crops.every((crop) => crop.attention === null)) notes.push("This detector has no attention.");
  if (crops.every((crop) => crop.influence === null)) notes.push(influenceMissing(crops.length));
  if (original === null) {
    const found = previews.length > 0;
    notes.push(
      found
        ? "Previews of crops are slightly compressed: native pixels need the original file."
        : "To see the crops in native pixels, the original file is needed, in a format that this " +
            "browser shows.",
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
  if (attention > 0) ends.push(`a full attention bar is ${percentText(attention)}`);
  if (influence > 0) {
    ends.push(`an influence bar that reaches the edge is ${influence.toFixed(3)}`);
  }
  return `All images of this page share one scale: ${ends.join(", ")}.`;
}
