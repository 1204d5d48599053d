// The dialog that shows an image with everything known of it.

const PAGING_PAUSE = 150; // milliseconds, so that paging fast opens no file on the way

/** Shows an item of a list, and leads to its neighbours. */
class Detail {
  /**
   * @param {HTMLDialogElement} dialog
   * @param {object} head of the page; `threshold` is used
   * @param {{attention: number, influence: number}} scales
   * @param {FileWords} words
   * @param {(item: object) => void} closed called with the item shown last
   */
  constructor(dialog, head, scales, words, closed) {
    Object.assign(this, { dialog, head, scales, words, closed });
    this.build();
    dialog.addEventListener("close", () => this.clear());
    dialog.addEventListener("pointerdown", (event) => (this.pressed = this.isBackdrop(event)));
    dialog.addEventListener("click", (event) => {
      if (this.pressed && this.isBackdrop(event)) dialog.close();
    });
    // A press on text leaves the focus outside of the dialog; keys must work all the same.
    document.addEventListener("keydown", (event) => dialog.open && this.keyPressed(event));
  }

  build() {
    this.title = element("h2", { id: "detail-title", dir: "ltr" });
    reachedIfScrolled(this.title);
    this.announced = element("p", { class: "visually-hidden", "aria-live": "polite" });
    this.position = element("span", { class: "position" });
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
    const header = element("header", {}, this.title, buttons);
    this.dialog.replaceChildren(header, this.announced, this.body);
  }

  /** Open at the item of an index in a list, as an entry of the browser's history. */
  open(items, index) {
    this.items = items;
    this.show(index, 0);
    this.dialog.showModal();
    this.dialog.scrollTop = 0; // or it is where it was when it was closed
    (index + 1 < items.length ? this.next : this.close).focus();
    this.entered = inHistory(() => {
      history.scrollRestoration = "manual"; // going back leads to the card, not to an old place
      history.pushState({ details: true }, "");
    });
  }

  /** Close if the browser has gone to an entry of its history that is not the details'. */
  left() {
    if (!this.dialog.open || history.state?.details) return;
    this.entered = false;
    this.dialog.close();
  }

  clear() {
    this.wanted.abort();
    this.body.replaceChildren();
    if (this.entered) inHistory(() => history.back());
    this.entered = false;
    this.closed(this.item);
  }

  step(by) {
    const index = this.index + by;
    if (index >= 0 && index < this.items.length) this.show(index, PAGING_PAUSE);
  }

  /** Whether a pointer is beside the dialog: its backdrop is the dialog to events. */
  isBackdrop({ target, clientX, clientY }) {
    if (target !== this.dialog) return false;
    const { left, right, top, bottom } = this.dialog.getBoundingClientRect();
    return clientX < left || clientX > right || clientY < top || clientY > bottom;
  }

  keyPressed(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest('pre, .pixels[tabindex="0"]')) return; // which arrows scroll
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    this.step(by);
  }

  /** Show an item; its file is opened after `pause` milliseconds if it is still shown. */
  show(index, pause) {
    const item = this.items[index];
    const all = this.items.length;
    Object.assign(this, { index, item });
    this.wanted?.abort();
    this.wanted = new AbortController();
    this.title.textContent = item.name;
    this.position.textContent = `${countText(index + 1)} of ${countText(all)}`;
    this.announced.textContent = printable(`${summaryOf(item)}. ${this.position.textContent}`);
    this.previous.setAttribute("aria-disabled", index === 0);
    this.next.setAttribute("aria-disabled", index === all - 1);
    const focused = this.body.contains(document.activeElement);
    this.body.replaceChildren(...(item.kind === "error" ? this.failure() : this.verdict(pause)));
    if (focused) this.title.focus();
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

  verdict(pause) {
    const { record, row } = this.item;
    this.picture = element("div", { class: "picture" });
    this.pictureNote = element("p", { class: "quiet" });
    const order = this.crops?.order ?? "number";
    this.crops = new CropSection(row, this.scales, order, this.dialog, this.wanted.signal);
    this.showFile(pause);
    const facts = element(
      "section",
      { class: "summary" },
      verdictLine(this.item),
      element("p", { class: "quiet" }, "A verdict is evidence, not proof."),
      rowNote(row),
      factList(verdictFacts(this.item, this.head)),
    );
    const picture = element("section", { class: "shown" }, this.picture, this.pictureNote);
    return [
      element("div", { class: "top" }, picture, facts),
      this.crops.element,
      claimsSection(record.provenance),
      recordSection(record),
      commandSection(row),
    ];
  }

  async showFile(pause) {
    const { row } = this.item;
    const { signal } = this.wanted;
    if (pictureUrl(row.original) === null) return this.showThumbnail(`${this.words.missing}.`);
    this.showThumbnail("Opening the file …");
    await new Promise((resolve) => setTimeout(resolve, pause));
    if (signal.aborted) return;
    const { image, reason } = await openOriginal(row, this.words, signal);
    if (signal.aborted) return;
    if (image === null) this.showThumbnail(reason);
    else this.showOriginal(image);
  }

  showOriginal(image) {
    image.alt = summaryOf(this.item);
    this.showPicture(
      framed(image, this.item.row, this.scales, MOST_OUTLINED.details),
      `${this.words.shown}.`,
    );
    this.crops.showPixels(image);
  }

  /** Show the thumbnail, and why not the file. */
  showThumbnail(reason) {
    const { row } = this.item;
    const missing = placeholder(row.record.path);
    if (pictureUrl(row.thumbnail) === null) return this.showPicture(missing, reason);
    const image = imageOf(row.thumbnail, summaryOf(this.item));
    const picture = framed(image, row, this.scales, MOST_OUTLINED.details);
    image.addEventListener("error", () => {
      if (picture.isConnected) {
        this.showPicture(missing, `${reason} The thumbnail could not be loaded.`);
      }
    });
    this.showPicture(picture, `${reason} This is the thumbnail.`);
  }

  showPicture(picture, note) {
    this.picture.replaceChildren(picture);
    this.pictureNote.textContent = note;
  }
}
