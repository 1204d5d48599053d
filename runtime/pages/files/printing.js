// On paper there is no scrolling: the first cards of a view are laid out one after the other.

const MOST_PRINTED = 200;

/**
 * Fill `host` while the page is printed; an image's open details are printed instead.
 * @param {() => object[]} itemsShown
 * @param {() => string} sentence which says what these are
 */
function printCards(host, itemsShown, makeCard, sentence) {
  const fill = () => {
    if (document.querySelector("dialog[open]")) return;
    const items = itemsShown();
    const printed = items.slice(0, MOST_PRINTED);
    const left = items.length - printed.length;
    const note = left > 0 ? ` The first ${MOST_PRINTED} are printed.` : "";
    const cards = element("div", { class: "cards" }, printed.map(makeCard));
    host.replaceChildren(element("p", { class: "quiet" }, sentence() + note), cards);
    host.hidden = false;
  };
  const clear = () => {
    host.hidden = true;
    host.replaceChildren();
  };
  addEventListener("beforeprint", fill);
  addEventListener("afterprint", clear);
}
