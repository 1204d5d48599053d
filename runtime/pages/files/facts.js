// What is known of an image, as lists and as text to copy.

const CHOICES = {
  highest: "It has one of the highest scores.",
  threshold: "It is one of those nearest the threshold.",
  sample: "It is part of a random sample.",
  error: "It could not be judged.",
};

/** A list of names and values; those without a value are left out. */
function factList(facts) {
  const known = facts.filter(([, value]) => value !== null && value !== undefined);
  const pairs = known.map(([name, value]) => [
    element("dt", {}, isolated(name)),
    element("dd", {}, value instanceof Node ? value : isolated(value)),
  ]);
  return element("dl", { class: "facts" }, pairs.flat());
}

function rowNote({ note }) {
  return note === null ? null : element("p", { class: "notice" }, isolated(note));
}

function verdictFacts({ record, row, distance }, head) {
  const settled = { true: "yes", false: "no: more crops could change the verdict" };
  return [
    ["Size", `${record.width} × ${record.height} pixels`],
    [
      "Distance to the threshold",
      distance === null ? null : distanceText(record.score, head.threshold),
    ],
    ["Views", viewsText(record.views)],
    ["Settled", record.settled === null ? null : settled[record.settled]],
    ["Damaged", record.damaged ? "a part of the image is missing and was filled in" : null],
    ["Seed", record.seed],
    ["Bundle", record.bundle],
    ["Engine", `${record.engine}, ${record.precision}`],
    ...fileFacts(record),
    choiceFact(row),
  ];
}

function viewsText(views) {
  const counts = Object.entries(views).map(([stream, count]) => `${stream} ${count}`);
  return counts.join(", ") || null;
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
  const shown = printable(command);
  return element(
    "section",
    { class: "command" },
    element("h3", {}, "Repeat the verdict"),
    copyButton("Copy the command", () => shown),
    preformatted(shown),
  );
}

/** Text with its own line ends. */
function preformatted(text) {
  const made = element("pre", { tabindex: 0, dir: "ltr" });
  made.textContent = text;
  return made;
}
