// Starts the page.

function start() {
  const { head, items } = readReport();
  const find = (id) => document.getElementById(id);
  const all = items.map(({ record }) => record);
  const scales = scalesOf(all);
  const makeCard = (item) => cardOf(item, scales);
  let shown = [];
  find("legend").textContent = legendText(all, scales);

  const grid = new CardGrid(find("grid"), makeCard, (index) => detail.open(shown, index));
  const detail = new Detail(find("detail"), head, scales, (index) => grid.focus(index));
  const controls = new Controls(find("controls"), viewOf(location.hash), (view) => {
    update();
    history.replaceState(null, "", `#${addressOf(view)}`);
  });

  function update() {
    shown = itemsOfView(items, controls.view);
    controls.showCount(shown.length, items.length);
    find("legend").hidden = shown.length === 0;
    find("nothing").hidden = shown.length > 0;
    find("grid").hidden = shown.length === 0;
    grid.show(shown);
  }

  const records = () => shown.map(({ record }) => record);
  find("reset").addEventListener("click", () => controls.set({ ...START }));
  find("save-csv").addEventListener("click", () =>
    save("verdicts.csv", csvOf(records()), "text/csv"),
  );
  find("save-jsonl").addEventListener("click", () =>
    save("verdicts.jsonl", jsonLinesOf(records()), "application/jsonl"),
  );
  addEventListener("hashchange", () => {
    controls.view = viewOf(location.hash);
    controls.write();
    update();
  });
  printCards(find("print-cards"), () => shown, makeCard);
  find("controls").hidden = false;
  update();
}

start();
