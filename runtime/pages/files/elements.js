// Elements of the page. All text and attributes are data of strangers: they are shown, never parsed.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : printable(value));
    }
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : printable(child));
  }
  return node;
}

/**
 * Make an HTML element. Attributes that are null or false are left out; strings become text.
 * @returns {HTMLElement}
 */
function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/**
 * Make an SVG element, as `element` does.
 * @returns {SVGElement}
 */
function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** The shape of an outcome: "fake", "real", "other" or "error". */
function shape(kind) {
  const use = drawn("use", { href: `#shape-${kind}` });
  return drawn("svg", { class: `shape ${kind}`, "aria-hidden": "true" }, use);
}

/** A button that calls `press`. */
function button(label, press, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, label);
  made.addEventListener("click", press);
  return made;
}

const scrolled = new ResizeObserver((changes) => {
  for (const { target } of changes) {
    const { scrollWidth, clientWidth, scrollHeight, clientHeight } = target;
    target.tabIndex = scrollWidth > clientWidth || scrollHeight > clientHeight ? 0 : -1;
  }
});

/** Let Tab reach a box while it hides a part of what it holds, so that keys scroll it. */
function reachedIfScrolled(box) {
  box.tabIndex = -1;
  scrolled.observe(box);
}

/** Text of any direction that leaves the direction of its surroundings alone. */
function isolated(text, attributes = {}) {
  return element("bdi", attributes, text);
}

/** A button that copies what `text` returns, and says so. */
function copyButton(label, text) {
  const made = button(label, async () => {
    made.textContent = (await copied(text())) ? "Copied" : "Not copied: select the text";
    setTimeout(() => (made.textContent = label), 2000);
  });
  made.setAttribute("aria-live", "polite");
  return made;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedBySelection(text);
  }
}

/** Copy where the clipboard's interface is missing or refused, as it may be for files. */
function copiedBySelection(text) {
  const area = element("textarea", { class: "visually-hidden", "aria-hidden": "true" });
  area.value = text;
  const focused = document.activeElement;
  (document.querySelector("dialog[open]") || document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done;
}
