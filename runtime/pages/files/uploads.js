// The pictures that the user chose, in their order, each with its card.

class Uploads {
  /**
   * @param {HTMLElement} list takes the cards
   * @param {object} head of the page
   * @param {() => void} changed called when pictures came, went, or were judged
   * @param {(item: object) => void} open called when a card is pressed
   */
  constructor(list, head, changed, open) {
    Object.assign(this, { list, head, changed, open, scales: scalesOf([]) });
    this.begin();
  }

  begin() {
    this.entries = [];
    this.wanted = new AbortController();
    this.lanes = new Lanes(MOST_AT_ONCE);
  }

  /** The items of the pictures that were judged, or could not be. */
  get items() {
    return this.entries.map(({ item }) => item).filter(Boolean);
  }

  add(files) {
    for (const file of files) this.take(file);
    this.changed();
  }

  /** Forget all pictures, and send no more of them. */
  clear() {
    this.wanted.abort();
    for (const { url } of this.entries) if (url !== null) forget(url);
    this.begin();
    Object.assign(this.scales, scalesOf([]));
    this.list.replaceChildren();
    this.changed();
  }

  /** Focus the card of an item. */
  focus(item) {
    const entry = this.entries.find((each) => each.item === item);
    entry?.place.firstElementChild.focus();
  }

  take(file) {
    const entry = { file, place: element("li"), url: null, item: null };
    this.entries.push(entry);
    this.list.append(entry.place);
    const { max_bytes: most } = this.head;
    if (file.size > most) {
      const sizes = `it has ${countText(file.size)} bytes, and this server takes ${countText(most)}`;
      this.show(entry, plainRow(failureOf(file, "TooLarge", `${sizes} at most: it was not sent.`)));
      return;
    }
    entry.url = addressOfFile(file);
    const { card, say } = waitingCard(file, entry.url);
    entry.place.append(card);
    const { signal } = this.wanted;
    this.lanes.run(() => this.judge(entry, say, signal));
  }

  async judge(entry, say, signal) {
    if (signal.aborted) return;
    const row = await judgedRow(entry.file, entry.url, say, signal);
    if (signal.aborted) return;
    this.show(entry, row);
    this.changed();
  }

  show(entry, row) {
    entry.item = itemOf(row, this.entries.indexOf(entry), this.head);
    this.rescale(row.record);
    const card = cardOf(entry.item, this.scales);
    card.tabIndex = 0;
    card.addEventListener("click", () => this.open(entry.item));
    entry.place.replaceChildren(card);
  }

  /** Let all outlines follow one scale, which a record may change. */
  rescale(record) {
    const { attention, influence } = scalesOf([record]);
    const grows = attention > this.scales.attention;
    this.scales.attention = Math.max(this.scales.attention, attention);
    this.scales.influence = Math.max(this.scales.influence, influence);
    if (!grows) return;
    for (const { item, place } of this.entries) {
      const drawnBefore = place.querySelector(".outlines");
      if (drawnBefore === null) continue;
      const { record: judgedBefore, orientation } = item.row;
      const anew = outlines(judgedBefore, orientation, this.scales, MOST_OUTLINED.card);
      drawnBefore.replaceWith(anew);
    }
  }
}
