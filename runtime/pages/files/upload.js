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

/** How many pictures were judged, and as what: "3 of 4 done: 1 fake, 2 real". */
function progressText(uploads, head) {
  const { items, entries } = uploads;
  const count = (kind) => items.filter((item) => item.kind === kind).length;
  const said = [
    [count("fake"), `${countText(count("fake"))} ${printable(head.fake_class)}`],
    [count("real"), `${countText(count("real"))} ${printable(head.real_class)}`],
    [count("error"), plural(count("error"), "error")],
  ]
    .filter(([number]) => number > 0)
    .map(([, words]) => words);
  const all = entries.length;
  const done =
    items.length === all
      ? plural(all, "picture")
      : `${countText(items.length)} of ${countText(all)} done`;
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
    if (first) find("results").firstElementChild.scrollIntoView({ block: "nearest" });
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
  if (matchMedia("(max-width: 760px)").matches) {
    for (const id of ["judge", "limits"]) find(id).open = false;
  }
  find("drop").hidden = false;
}

start();
