// Starts the page of a report.

const FILE_WORDS = {
  shown: "This is the file at that path now; its size in pixels is the record's",
  missing: "The file was not found when this page was made",
  unreadable: "The file was moved or removed, or this browser does not read its format",
  other: "The file has changed since it was judged, or is not shown as it was judged",
};

function start() {
  const { head, items } = readReport();
  const find = (id) => document.getElementById(id);
  const all = items.map(({ record }) => record);
  const scales = scalesOf(all);
  const makeCard = (item) => cardOf(item, scales);
  let shown = [];
  find("legend").textContent = legendText(all, scales);

  const address = new Address();
  const controls = new Controls(find("controls"), (view, field) => {
    update();
    address.name(view, field === "search" ? PAUSE : 0);
  });
  const grid = new CardGrid(find("grid"), makeCard, (index) => {
    address.write();
    detail.open(shown, index);
  });
  const detail = new Detail(find("detail"), head, scales, FILE_WORDS, (item) => {
    if (shown.includes(item)) grid.focus(shown.indexOf(item));
    else controls.focus();
  });

  function update() {
    shown = itemsOfView(items, controls.view);
    controls.showCount(shown.length, items.length);
    find("legend").hidden = shown.length === 0;
    find("nothing").hidden = shown.length > 0;
    find("grid").hidden = shown.length === 0;
    grid.show(shown);
  }

  function navigated() {
    detail.left();
    if (!address.moved()) return;
    controls.read(location.hash);
    update();
  }

  const records = () => shown.map(({ record }) => record);
  const sentence = () => controls.sentence(shown.length, items.length);
  find("reset").addEventListener("click", () => controls.reset());
  find("save-csv").addEventListener("click", () =>
    save("verdicts.csv", csvOf(records()), "text/csv"),
  );
  find("save-jsonl").addEventListener("click", () =>
    save("verdicts.jsonl", jsonLinesOf(records()), "application/jsonl"),
  );
  addEventListener("popstate", navigated);
  addEventListener("hashchange", navigated);
  printCards(find("print-cards"), () => shown, makeCard, sentence);
  find("controls").hidden = false;
  update();
}

start();
