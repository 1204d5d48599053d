// The form above the grid: sort, filter, search, and the files to save.

/** Connects the form with a view. */
class Controls {
  /**
   * @param {HTMLFormElement} form
   * @param {object} view to begin with
   * @param {(view: object) => void} changed called when somebody chose something
   */
  constructor(form, view, changed) {
    Object.assign(this, { form, view, changed });
    this.count = form.querySelector("#count");
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => this.read(event.target));
    form.elements.turn.addEventListener("click", () => this.turn());
    new ResizeObserver(() => this.announceHeight()).observe(form);
    this.write();
  }

  /** Let style sheets know how much of the screen the form covers. */
  announceHeight() {
    document.documentElement.style.setProperty("--bar", `${this.form.offsetHeight}px`);
  }

  /** Take what the form says over into the view. */
  read(field) {
    const { elements } = this.form;
    const sort = elements.sort.value;
    const direction = field.name === "sort" ? SORTS[sort].direction : this.view.direction;
    this.set({
      sort,
      direction,
      verdict: elements.verdict.value,
      unsettled: elements.unsettled.checked,
      claims: elements.claims.checked,
      search: elements.search.value,
    });
  }

  turn() {
    this.set({ ...this.view, direction: this.view.direction === "up" ? "down" : "up" });
  }

  set(view) {
    this.view = view;
    this.write();
    this.changed(view);
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

  /** Say how many are shown. */
  showCount(shown, all) {
    this.count.textContent = `${countText(shown)} of ${countText(all)} shown`;
  }
}
