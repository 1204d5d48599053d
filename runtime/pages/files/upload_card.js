// A picture of the user's: its card before there is a verdict, and its row after.

const FILE_WORDS = {
  shown: "This is your file. The server has not kept it",
  missing: "There is no picture",
  unreadable: "This browser does not show files of this format, which does not change the verdict",
  other: "The file is not shown as it was judged",
};
const NOT_SHOWN = "This browser does not show it.";

/** A card that says what is being done, and a function that changes what it says. */
function waitingCard(file, url) {
  const image = imageOf(url, "", "lazy");
  image.addEventListener("error", () => image.replaceWith(placeholder(file.name, NOT_SHOWN)));
  const state = element("div", { class: "state" }, "waiting");
  const card = element(
    "div",
    { class: "card waiting" },
    element("div", { class: "face" }, image),
    state,
    pathLine({ name: printable(file.name) }),
    element("div", { class: "line quiet" }, bytesText(file.size)),
  );
  return { card, say: (sentence) => (state.textContent = sentence) };
}

/** What the page knows of a picture beside its record, as rows of a report do. */
function plainRow(record) {
  const unknown = { thumbnail: null, original: null, command: null, note: null };
  return { record, choice: "all", orientation: AS_STORED, previews: [], ...unknown };
}

/**
 * Have a picture judged, and find out whether this browser shows it as it was judged.
 * @param {File} file
 * @param {string} url of the file
 * @param {(sentence: string) => void} say is told what goes on
 * @param {AbortSignal} signal upon which nothing more is sent
 */
async function judgedRow(file, url, say, signal) {
  let turn;
  try {
    turn = await orientationOf(file);
  } catch {
    const sentence = "it cannot be read: of a folder, choose the pictures that are in it.";
    return plainRow(failureOf(file, "NotReadable", sentence));
  }
  const record = await judged(file, say, signal);
  if (record.status === "error") return plainRow(record);
  const row = { ...plainRow(record), ...turn, original: url };
  const looking = new AbortController();
  const { image } = await openOriginal(row, FILE_WORDS, looking.signal);
  looking.abort(); // which lets go of the decoded picture
  return image === null ? { ...row, missing: NOT_SHOWN } : { ...row, thumbnail: url };
}
