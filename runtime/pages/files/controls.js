// The form above the grid: sort, filter, search, and the files to save.

/** Connects the form with a view. */
class Controls {
  /**
   * @param {HTMLFormElement} form
   * @param {(view: object, field: string) => void} changed called with the field that was changed
   */
  constructor(form, changed) {
    Object.assign(this, { form, changed });
    this.count = form.querySelector("#count");
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => this.choose(event.target));
    form.elements.turn.addEventListener("click", () => this.turn());
    new ResizeObserver(() => this.announceHeight()).observe(form);
    this.read(location.hash);
  }

  /** Take a view over from an address. */
  read(address) {
    const values = ({ options }) => Array.from(options, ({ value }) => value);
    const { sort, verdict } = this.form.elements;
    this.view = viewOf(address, { sort: values(sort), verdict: values(verdict) });
    this.write();
  }

  /** Let style sheets know how much of the screen the form covers. */
  announceHeight() {
    document.documentElement.style.setProperty("--bar", `${this.form.offsetHeight}px`);
  }

  /** Take what the form says over into the view. */
  choose(field) {
    const { elements } = this.form;
    const sort = elements.sort.value;
    const direction = field.name === "sort" ? SORTS[sort].direction : this.view.direction;
    const view = {
      sort,
      direction,
      verdict: elements.verdict.value,
      unsettled: elements.unsettled.checked,
      claims: elements.claims.checked,
      search: elements.search.value,
    };
    this.set(view, field.name);
  }

  turn() {
    this.set({ ...this.view, direction: this.view.direction === "up" ? "down" : "up" }, "turn");
  }

  /** Show all images in the usual order. */
  reset() {
    this.set({ ...START }, "reset");
    this.focus();
  }

  focus() {
    this.form.elements.search.focus();
  }

  set(view, field) {
    this.view = view;
    this.write();
    this.changed(view, field);
  }

  /** Make the form say what the view is. */
  write() {
    const { elements } = this.form;
    const { view } = this;
    for (const name of ["sort", "verdict", "search"]) {
      if (elements[name].value !== view[name]) elements[name].value = view[name];
    }
    elements.unsettled.checked = view.unsettled;
    elements.claims.checked = view.claims;
    const up = view.direction === "up";
    elements.turn.textContent = up ? "↑ ascending" : "↓ descending";
  }

  /** How many are shown, which, and in what order: a sentence for paper. */
  sentence(shown, all) {
    const { view } = this;
    const { sort, verdict } = this.form.elements;
    const filters = [];
    if (view.verdict !== "all") filters.push(`${verdict.selectedOptions[0].text} only`);
    if (view.unsettled) filters.push("not settled only");
    if (view.claims) filters.push("with claims only");
    if (view.search.trim()) filters.push(`found by “${view.search.trim()}”`);
    const count =
      filters.length > 0
        ? `${countText(shown)} of ${plural(all, "image")}: ${filters.join(", ")}`
        : plural(all, "image");
    const order = view.direction === "up" ? "ascending" : "descending";
    return `${count}; sorted by ${sort.selectedOptions[0].text}, ${order}.`;
  }

  /** Say how many are shown. */
  showCount(shown, all) {
    this.count.textContent = `${countText(shown)} of ${countText(all)} shown`;
  }
}
