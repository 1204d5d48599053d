// Cards in rows and columns, of which only those near the screen are in the page.

const SPARE_ROWS = 2; // above and below what is seen
const MOVES = {
  ArrowLeft: () => -1,
  ArrowRight: () => 1,
  ArrowUp: (grid) => grid.vertically(-1),
  ArrowDown: (grid) => grid.vertically(1),
  PageUp: (grid) => -grid.columns * grid.rowsSeen(),
  PageDown: (grid) => grid.columns * grid.rowsSeen(),
  Home: () => -Infinity,
  End: () => Infinity,
};

/** A windowed grid of any number of items. */
class CardGrid {
  /**
   * @param {HTMLElement} host
   * @param {(item: object) => HTMLElement} makeCard
   * @param {(index: number) => void} open called when a card is pressed
   */
  constructor(host, makeCard, open) {
    Object.assign(this, { host, makeCard, open, items: [], active: 0, columns: 1, rows: new Map() });
    this.measure = element("div", { class: "measure", role: "presentation" });
    host.addEventListener("keydown", (event) => this.keyPressed(event));
    host.addEventListener("click", (event) => this.clicked(event));
    host.addEventListener("focusin", (event) => this.focused(event));
    addEventListener("scroll", () => this.schedule(), { passive: true });
    addEventListener("resize", () => this.schedule());
    new ResizeObserver(() => this.layOut()).observe(host);
  }

  /** Show other items, the first of them ready to be reached by Tab. */
  show(items) {
    this.items = items;
    this.active = 0;
    this.layOut(true);
  }

  /** Measure, and place all rows anew if the measures have changed. */
  layOut(always = false) {
    if (!this.measure.isConnected) this.host.prepend(this.measure);
    const { offsetWidth: least, offsetHeight: height } = this.measure;
    if (least === 0) return; // hidden, or on paper
    const columns = Math.max(1, Math.floor(this.host.clientWidth / least));
    if (!always && columns === this.columns && height === this.rowHeight) return;
    const card = this.focusedCard();
    Object.assign(this, { columns, rowHeight: height });
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    const rows = Math.ceil(this.items.length / columns);
    this.host.style.setProperty("--columns", columns);
    this.host.style.height = `${rows * height}px`;
    this.host.setAttribute("aria-rowcount", rows);
    this.host.setAttribute("aria-colcount", columns);
    this.render();
    if (card) this.focus(this.active);
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.render();
    });
  }

  /** Which rows can be seen: the first, and the one after the last. */
  seen() {
    const top = -this.host.getBoundingClientRect().top;
    const rows = Math.ceil(this.items.length / this.columns);
    const first = Math.floor(top / this.rowHeight);
    const end = Math.ceil((top + innerHeight) / this.rowHeight);
    const within = (row) => Math.min(Math.max(row, 0), rows);
    return { first: within(first), end: within(end), rows };
  }

  rowsSeen() {
    return Math.max(1, Math.floor(innerHeight / this.rowHeight));
  }

  /** How far it is to the card in the row above (-1) or below (1): 0 where there is none. */
  vertically(rows) {
    const by = rows * this.columns;
    return this.items[this.active + by] === undefined ? 0 : by;
  }

  /** Bring the rows in the page up to date with what is seen. */
  render() {
    const { first, end, rows } = this.seen();
    const focused = this.focusedCard() !== null;
    if (!focused) this.keepReachable(first, end);
    const wanted = new Set(focused ? [this.rowOf(this.active)] : []);
    const last = Math.min(end + SPARE_ROWS, rows);
    for (let row = Math.max(first - SPARE_ROWS, 0); row < last; row += 1) wanted.add(row);
    for (const [index, row] of this.rows) {
      if (!wanted.has(index)) {
        row.remove();
        this.rows.delete(index);
      }
    }
    for (const index of wanted) if (!this.rows.has(index)) this.insert(index);
    this.markActive();
  }

  /** Tab leads to the active card, so without focus it is one that is seen. */
  keepReachable(first, end) {
    const row = this.rowOf(this.active);
    if (row < first || row >= end) {
      this.active = Math.max(0, Math.min(first * this.columns, this.items.length - 1));
    }
  }

  rowOf(item) {
    return Math.floor(item / this.columns);
  }

  insert(index) {
    const start = index * this.columns;
    const cells = this.items.slice(start, start + this.columns).map((item, column) => {
      const card = this.makeCard(item);
      card.dataset.position = start + column;
      return element("div", { role: "gridcell", "aria-colindex": column + 1 }, card);
    });
    const row = element("div", { class: "row", role: "row", "aria-rowindex": index + 1 }, cells);
    row.style.top = `${index * this.rowHeight}px`;
    const after = [...this.rows.keys()].filter((other) => other > index);
    const next = after.length > 0 ? this.rows.get(Math.min(...after)) : null;
    this.host.insertBefore(row, next);
    this.rows.set(index, row);
  }

  cardAt(index) {
    return this.host.querySelector(`[data-position="${index}"]`);
  }

  focusedCard() {
    const card = document.activeElement;
    return card && this.host.contains(card) ? card : null;
  }

  markActive() {
    for (const card of this.host.querySelectorAll('.card[tabindex="0"]')) card.tabIndex = -1;
    const card = this.cardAt(this.active);
    if (card) card.tabIndex = 0;
  }

  /** Focus an item's card, scrolled to where it is seen. */
  focus(index) {
    if (this.items.length === 0) return;
    this.active = Math.min(Math.max(index, 0), this.items.length - 1);
    const row = this.rowOf(this.active);
    if (!this.rows.has(row)) {
      const top = this.host.getBoundingClientRect().top + scrollY + row * this.rowHeight;
      scrollTo(scrollX, top - (innerHeight - this.rowHeight) / 2);
      this.render();
      if (!this.rows.has(row)) this.insert(row);
    }
    this.rows.get(row).scrollIntoView({ block: "nearest" });
    this.cardAt(this.active).focus({ preventScroll: true });
  }

  focused(event) {
    const card = event.target.closest(".card");
    if (!card) return;
    this.active = Number(card.dataset.position);
    this.markActive();
  }

  clicked(event) {
    const card = event.target.closest(".card");
    if (card) this.open(Number(card.dataset.position));
  }

  keyPressed(event) {
    const move = MOVES[event.key];
    if (!move || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    this.focus(this.active + move(this));
  }
}
