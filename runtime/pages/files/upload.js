// Starts the page on which pictures are chosen.

/** Call `take` with files that are chosen, dropped anywhere on the page, or pasted. */
function takeFiles(input, zone, take) {
  const isFree = () => document.querySelector("dialog[open]") === null;
  const mark = (over) => zone.classList.toggle("over", over);
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = ""; // so that the same file can be chosen again
  });
  addEventListener("dragover", (event) => {
    event.preventDefault(); // or the browser leaves the page for the file
    mark(isFree() && event.dataTransfer.types.includes("Files"));
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && mark(false));
  addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    if (isFree()) take([...event.dataTransfer.files]);
  });
  addEventListener("paste", (event) => {
    if (isFree()) take([...event.clipboardData.files]);
  });
}

/** How many pictures were judged, and as what: "3 of 4 judged: 1 fake, 2 real". */
function progressText(uploads, head) {
  const { items, entries } = uploads;
  const counts = [
    ["fake", head.fake_class],
    ["real", head.real_class],
    ["other", "of other classes"],
  ].map(([kind, name]) => [items.filter((item) => item.kind === kind).length, printable(name)]);
  const said = counts.filter(([count]) => count > 0).map(([count, name]) => `${countText(count)} ${name}`);
  const errors = items.filter(({ kind }) => kind === "error").length;
  if (errors > 0) said.push(plural(errors, "error"));
  const all = countText(entries.length);
  const done = items.length === entries.length ? plural(entries.length, "picture") : `${countText(items.length)} of ${all} done`;
  return said.length > 0 ? `${done}: ${said.join(", ")}` : done;
}

function start() {
  const head = pageData();
  const find = (id) => document.getElementById(id);
  const records = () => uploads.items.map(({ record }) => record);
  const uploads = new Uploads(find("results"), head, update, (item) => {
    detail.open(uploads.items, uploads.items.indexOf(item));
  });
  const detail = new Detail(find("detail"), head, uploads.scales, FILE_WORDS, (item) =>
    uploads.focus(item),
  );

  function update() {
    find("bar").hidden = uploads.entries.length === 0;
    find("saving").hidden = uploads.items.length === 0;
    find("count").textContent = progressText(uploads, head);
    find("legend").textContent = legendText(records(), uploads.scales);
  }

  takeFiles(find("files"), find("drop"), (files) => {
    if (files.length === 0) return;
    const first = uploads.entries.length === 0;
    uploads.add(files);
    if (first) find("bar").scrollIntoView({ block: "nearest" });
  });
  find("clear").addEventListener("click", () => {
    uploads.clear();
    find("files").focus();
  });
  find("save-csv").addEventListener("click", () =>
    save("verdicts.csv", csvOf(records()), "text/csv"),
  );
  find("save-jsonl").addEventListener("click", () =>
    save("verdicts.jsonl", jsonLinesOf(records()), "application/jsonl"),
  );
  addEventListener("popstate", () => detail.left());
  if (matchMedia("(max-width: 760px)").matches) find("limits").open = false;
  find("drop").hidden = false;
}

start();
