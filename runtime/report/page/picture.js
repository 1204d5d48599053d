// Which picture stands for an image: its file if that is still the same, else the thumbnail.

const NOT_FOUND = "The file was not found when this page was made.";
const CHANGED = "The file has changed since it was judged";
const TURNED_BY_BROWSERS = /\.jpe?g$/i;

/**
 * Open an image's file.
 * @param {object} row of the report
 * @param {AbortSignal} signal upon which the file is dropped, even if it was shown
 * @returns {Promise<{image: HTMLImageElement|null, reason: string|null}>} the decoded file, or
 *     why it cannot be used
 */
async function openOriginal(row, signal) {
  const { record, orientation } = row;
  const image = new Image();
  signal.addEventListener("abort", () => image.removeAttribute("src"));
  image.src = pictureUrl(row.original);
  try {
    await image.decode();
  } catch {
    return unusable("The file was moved or removed, or this browser does not read its format.");
  }
  const expected = uprightSize(record.width, record.height, orientation);
  const { naturalWidth: width, naturalHeight: height } = image;
  if (width !== expected.width || height !== expected.height) {
    const sizes = `${width} × ${height}, not ${expected.width} × ${expected.height}`;
    return unusable(`${CHANGED}, or is not shown as it was judged: it is ${sizes}.`);
  }
  if (!isUpright(row)) return unusable("This browser may not turn such a file upright.");
  return { image, reason: null };
}

function unusable(reason) {
  return { image: null, reason };
}

/** Browsers turn JPEG files; of others the size may tell, if turning changes it. */
function isUpright({ record, orientation }) {
  if (orientation === 1 || TURNED_BY_BROWSERS.test(record.path || "")) return true;
  return orientation >= 5 && record.width !== record.height;
}
