// The dialog that shows an image with everything known of it.

const CHOICES = {
  highest: "It has one of the highest scores.",
  threshold: "It is one of those nearest the threshold.",
  sample: "It is part of a random sample.",
  error: "It could not be judged.",
};

/** Shows an item of a list, and leads to its neighbours. */
class Detail {
  /**
   * @param {HTMLDialogElement} dialog
   * @param {object} head of the report; `threshold` is used
   * @param {{attention: number, influence: number}} scales
   * @param {(index: number) => void} closed called with the index of the item shown last
   */
  constructor(dialog, head, scales, closed) {
    this.dialog = dialog;
    this.head = head;
    this.scales = scales;
    this.order = "number";
    this.build();
    dialog.addEventListener("close", () => closed(this.index));
    dialog.addEventListener("keydown", (event) => this.keyPressed(event));
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }

  build() {
    this.title = element("h2", { id: "detail-title", dir: "ltr" });
    this.position = element("span", { class: "position", "aria-live": "polite" });
    this.previous = button("← Previous", () => this.step(-1));
    this.next = button("Next →", () => this.step(1));
    this.close = button("Close", () => this.dialog.close());
    const buttons = element(
      "div",
      { class: "buttons" },
      this.position,
      this.previous,
      this.next,
      this.close,
    );
    this.body = element("div", { class: "body" });
    this.dialog.replaceChildren(element("header", {}, this.title, buttons), this.body);
  }

  /** Open at the item of an index in a list. */
  open(items, index) {
    this.items = items;
    this.show(index);
    this.dialog.showModal();
    (index + 1 < items.length ? this.next : this.close).focus();
  }

  step(by) {
    const index = this.index + by;
    if (index >= 0 && index < this.items.length) this.show(index);
  }

  keyPressed(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest("pre")) return; // which may be wider than the screen
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    this.step(by);
  }

  show(index) {
    this.index = index;
    const item = this.items[index];
    this.item = item;
    this.title.textContent = item.name;
    this.position.textContent = `${countText(index + 1)} of ${countText(this.items.length)}`;
    this.previous.setAttribute("aria-disabled", index === 0);
    this.next.setAttribute("aria-disabled", index === this.items.length - 1);
    this.body.replaceChildren(...(item.kind === "error" ? this.failure() : this.verdict()));
    this.dialog.scrollTop = 0;
  }

  failure() {
    const { record, row } = this.item;
    const message = element(
      "section",
      { class: "message" },
      element("h3", {}, shape("error"), "This image could not be judged"),
      element("p", { dir: "auto" }, record.error.message),
      rowNote(row),
      factList([["Error", record.error.type], ...fileFacts(record), choiceFact(row)]),
    );
    return [message, recordSection(record), commandSection(row)];
  }

  verdict() {
    const { record, row } = this.item;
    this.picture = element("div", { class: "picture" });
    this.pictureNote = element("p", { class: "quiet", role: "status" });
    this.looked = element("section", { class: "looked" });
    this.showPicture(null, "Opening the file …");
    this.openFile();
    const facts = element(
      "section",
      { class: "summary" },
      verdictLine(record, this.item.kind),
      element("p", { class: "quiet" }, "A verdict is evidence, not proof."),
      rowNote(row),
      factList(verdictFacts(this.item, this.head)),
    );
    const picture = element("section", { class: "shown" }, this.picture, this.pictureNote);
    return [
      element("div", { class: "top" }, picture, facts),
      this.looked,
      claimsSection(record.provenance),
      recordSection(record),
      commandSection(row),
    ];
  }

  async openFile() {
    const { item } = this;
    const { image, reason } = await openOriginal(item.row);
    if (this.item !== item) return; // meanwhile another is shown
    this.showPicture(image, reason);
  }

  showPicture(original, reason) {
    const { row, record } = this.item;
    this.original = original;
    const image = original || thumbnailOf(this.item);
    const shown = image
      ? framed(image, record, row.orientation, this.scales)
      : placeholder(record.path);
    if (original) original.alt = summaryOf(this.item);
    this.picture.replaceChildren(shown);
    const which = image ? " Shown is the thumbnail." : "";
    this.pictureNote.textContent = original ? "Shown is the original file." : reason + which;
    this.showCrops();
  }

  showCrops() {
    const { row } = this.item;
    const influences = row.record.crops.some((crop) => crop.influence !== null);
    const ending = influences ? ", and how each crop moved the score" : "";
    const notes = cropNotes(row, this.scales, this.original);
    const focused = this.looked.contains(document.activeElement);
    this.looked.replaceChildren(
      element("h3", {}, `Where the model looked${ending}`),
      element("p", { class: "quiet" }, notes.join(" ")),
      influences ? this.orderButtons() : "",
      cropFigures(row, this.scales, this.order, this.original),
    );
    if (focused) this.looked.querySelector('[aria-pressed="true"]')?.focus();
  }

  orderButtons() {
    const choices = Object.entries(CROP_ORDERS).map(([order, { label }]) =>
      button(label, () => this.orderBy(order), { "aria-pressed": String(order === this.order) }),
    );
    return element("div", { class: "orders", role: "group", "aria-label": "Order" }, choices);
  }

  orderBy(order) {
    this.order = order;
    this.showCrops();
  }
}

function thumbnailOf(item) {
  const url = pictureUrl(item.row.thumbnail);
  return url === null ? null : imageOf(url, summaryOf(item));
}

function rowNote({ note }) {
  return note === null ? null : element("p", { class: "notice" }, isolated(note));
}

function verdictFacts({ record, row, distance }, head) {
  const above = distance !== null && record.score >= head.threshold;
  const settled = { true: "yes", false: "no: more crops could change the verdict" };
  return [
    ["Size", `${record.width} × ${record.height} pixels`],
    ["From the threshold", distance === null ? null : `${distance.toFixed(4)} ${above ? "above" : "below"}`],
    ["Views", Object.entries(record.views).map(([stream, views]) => `${stream} ${views}`).join(", ")],
    ["Settled", record.settled === null ? null : settled[record.settled]],
    ["Damaged", record.damaged ? "a part of the image is missing and was filled in" : null],
    ["Seed", record.seed],
    ["Bundle", record.bundle],
    ["Engine", `${record.engine}, ${record.precision}`],
    ...fileFacts(record),
    choiceFact(row),
  ];
}

function fileFacts({ file }) {
  return file ? [["File", `${bytesText(file.bytes)}, changed ${momentText(file.modified)}`]] : [];
}

function choiceFact({ choice }) {
  return ["Why it is shown", CHOICES[choice] || null];
}

function recordSection(record) {
  const text = readableJson(record);
  return element(
    "section",
    { class: "record" },
    element("h3", {}, "The record"),
    copyButton("Copy the record", () => text),
    preformatted(text),
  );
}

function commandSection({ command }) {
  if (command === null) return "";
  return element(
    "section",
    { class: "command" },
    element("h3", {}, "Repeat the verdict"),
    copyButton("Copy the command", () => command),
    preformatted(printable(command)),
  );
}

/** Text with its own line ends. */
function preformatted(text) {
  const made = element("pre", { tabindex: 0, dir: "ltr" });
  made.textContent = text;
  return made;
}
