// An image in the grid.

/** A card; it is a button that opens the details. */
function cardOf(item, scales) {
  const label = [summaryOf(item), ...badgesOf(item)].join(", ");
  return element(
    "button",
    { type: "button", class: `card ${item.kind}`, "aria-label": label, "aria-haspopup": "dialog", tabindex: -1 },
    item.kind === "error" ? errorFace(item) : pictureFace(item, scales),
    item.kind === "error" ? null : verdictLine(item),
    pathLine(item),
    detailLine(item),
    item.kind === "error" ? null : claimsLineOf(item.record),
    badgeList(item),
  );
}

function pictureFace(item, scales) {
  const { row, record } = item;
  const nothing = placeholder(record.path, row.missing);
  if (pictureUrl(row.thumbnail) === null) return element("div", { class: "face" }, nothing);
  const whole = row.thumbnail === row.original;
  const image = imageOf(row.thumbnail, summaryOf(item), whole ? "lazy" : "eager");
  const picture = framed(image, row, scales, MOST_OUTLINED.card);
  image.addEventListener("error", () => picture.replaceWith(nothing));
  return element("div", { class: "face" }, picture);
}

function errorFace({ record }) {
  return element(
    "div",
    { class: "face message" },
    element("strong", {}, shape("error"), isolated(record.error.type)),
    element("span", { class: "sentence", dir: "auto" }, record.error.message),
  );
}

function verdictLine({ record, kind, scoreText: score }) {
  return element(
    "div",
    { class: "verdict" },
    shape(kind),
    isolated(record.verdict, { class: `word ${kind}` }),
    element("span", { class: "score" }, score),
  );
}

/** The end of a path tells images apart, so its start is cut off where it is too long. */
function pathLine({ name }) {
  return element("div", { class: "path", title: name }, isolated(name, { dir: "ltr" }));
}

function detailLine({ record }) {
  const parts = [];
  if (record.status === "ok") {
    parts.push(`${record.width} × ${record.height}`);
    if (record.crops.length > 0) parts.push(plural(record.crops.length, "crop"));
  } else if (record.file) {
    parts.push(bytesText(record.file.bytes));
  }
  return element("div", { class: "line quiet" }, parts.join(" · "));
}

function claimsLineOf(record) {
  const line = claimsLine(record.provenance);
  return line && element("div", { class: "line claim", title: line }, isolated(line));
}

/** What must be known of an image beside its verdict, in a word or two each. */
function badgesOf({ row, record }) {
  const badges = [];
  if (record.damaged) badges.push("damaged");
  if (record.settled === false) badges.push("not settled");
  if (row.note !== null) badges.push("note");
  return badges;
}

function badgeList(item) {
  const badges = badgesOf(item).map((badge) =>
    element("span", { class: "badge", title: badge === "note" ? item.row.note : null }, badge),
  );
  return badges.length > 0 ? element("div", { class: "badges" }, badges) : null;
}
