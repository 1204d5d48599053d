// Which items are shown and in which order, and how an address says so.

const START = {
  sort: "score",
  direction: "down",
  verdict: "all",
  unsettled: false,
  claims: false,
  search: "",
};
const PATHS = new Intl.Collator("en", { numeric: true });
/** By what items are sorted, and the direction that is usually wanted. */
const SORTS = {
  score: { direction: "down", value: (item) => item.score },
  distance: { direction: "up", value: (item) => item.distance },
  path: { direction: "up", value: (item) => item.name },
  crops: { direction: "down", value: ({ record }) => record.crops?.length ?? null },
};

/** The items of a view in its order; equal ones stay in the order of the page. */
function itemsOfView(items, view) {
  const words = searchable(view.search).split(/\s+/).filter(Boolean);
  const shown = items.filter((item) => isShown(item, view, words));
  const { value } = SORTS[view.sort];
  const sign = view.direction === "up" ? 1 : -1;
  const keyed = shown.map((item) => ({ item, key: value(item) }));
  return keyed.sort((one, other) => compared(one.key, other.key, sign)).map(({ item }) => item);
}

function isShown(item, view, words) {
  if (view.verdict !== "all" && item.kind !== view.verdict) return false;
  if (view.unsettled && item.record.settled !== false) return false;
  if (view.claims && !hasClaims(item.record.provenance)) return false;
  if (words.length === 0) return true;
  if (item.searched === undefined) item.searched = searchedText(item);
  return words.every((word) => item.searched.includes(word));
}

/** What has no value comes last in both directions. */
function compared(one, other, sign) {
  if (one === null || other === null) return (one === null) - (other === null);
  return sign * (typeof one === "string" ? PATHS.compare(one, other) : one - other);
}

/** A view as the part of an address behind "#"; empty for the view at the start. */
function addressOf(view) {
  const usual = { ...START, direction: SORTS[view.sort].direction };
  const fields = Object.entries(view).filter(([name, value]) => value !== usual[name]);
  return new URLSearchParams(fields).toString();
}

/**
 * The view that an address names; what it says wrongly is as at the start.
 * @param {string} address
 * @param {{sort: string[], verdict: string[]}} offered what may be chosen
 */
function viewOf(address, offered) {
  const fields = new URLSearchParams(address.replace(/^#/, ""));
  const known = (name, values, otherwise) => {
    const value = fields.get(name);
    return values.includes(value) ? value : otherwise;
  };
  const sort = known("sort", offered.sort, START.sort);
  return {
    sort,
    direction: known("direction", ["up", "down"], SORTS[sort].direction),
    verdict: known("verdict", offered.verdict, START.verdict),
    unsettled: fields.get("unsettled") === "true",
    claims: fields.get("claims") === "true",
    search: fields.get("search") ?? "",
  };
}
