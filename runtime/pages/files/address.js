// The page's address says which view is shown.

const PAUSE = 300; // milliseconds without typing

class Address {
  constructor() {
    this.seen = location.hash;
  }

  /** Name a view, after `pause` milliseconds in which no other was named. */
  name(view, pause) {
    this.view = view;
    clearTimeout(this.timer);
    if (pause === 0) this.write();
    else this.timer = setTimeout(() => this.write(), pause);
  }

  /** Write what was named, if that has not been done. */
  write() {
    clearTimeout(this.timer);
    if (!this.view) return;
    inHistory(() => history.replaceState(history.state, "", `#${addressOf(this.view)}`));
    this.view = null;
    this.seen = location.hash;
  }

  /** Whether somebody else changed the address since this was asked last. */
  moved() {
    const moved = location.hash !== this.seen;
    this.seen = location.hash;
    return moved;
  }
}
