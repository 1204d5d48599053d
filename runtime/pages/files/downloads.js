// The records shown as files, as glass-run writes them.

const FORMULAS = ["=", "+", "-", "@", "\t", "\r", "\n", "'"]; // CWE-1236, and the mark itself

/** Records as JSON lines. */
function jsonLinesOf(records) {
  return records.map((record) => `${JSON.stringify(record)}\n`).join("");
}

/** Records as CSV: text in quotes, and "'" before what a spreadsheet would compute. */
function csvOf(records) {
  const classes = records.flatMap((record) => Object.keys(record.probabilities ?? {}));
  const columns = columnsOf([...new Set(classes)]);
  const names = columns.map(([name]) => quoted(name));
  const rows = records.map((record) => columns.map(([, value]) => csvCell(value(record))));
  return [names, ...rows].map((cells) => `${cells.join(",")}\n`).join("");
}

function columnsOf(classes) {
  const plain = (name) => [name, (record) => record[name]];
  const json = (name) => [name, (record) => record[name] && JSON.stringify(record[name])];
  const ofClass = (values, name) => (values && Object.hasOwn(values, name) ? values[name] : null);
  const word = (name) => [name, (record) => record[name]?.toString()];
  return [
    ...["path", "status", "verdict", "score"].map(plain),
    ...classes.map((name) => [`probability_${name}`, ({ probabilities }) => ofClass(probabilities, name)]),
    ...classes.map((name) => [`logit_${name}`, ({ logits }) => ofClass(logits, name)]),
    json("crops"),
    ...["width", "height", "seed", "bundle", "engine", "precision"].map(plain),
    ["error_type", (record) => record.error?.type],
    ["error_message", (record) => record.error?.message],
    ["file_bytes", (record) => record.file?.bytes],
    ["file_modified", (record) => record.file?.modified],
    word("damaged"),
    word("settled"),
    json("views"),
    json("provenance"),
  ];
}

function csvCell(value) {
  if (typeof value === "number") return String(value);
  const text = String(value ?? "");
  return quoted(FORMULAS.includes(text[0]) ? `'${text}` : text);
}

function quoted(text) {
  return `"${text.replace(/"/g, '""')}"`;
}

/** Let the browser save a text as a file. */
function save(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = element("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
