// Which picture stands for an image: its file if that is still the same, else the thumbnail.

const CHANGED = "The file has changed since it was judged";
const TURNED_BY_BROWSERS = /\.jpe?g$/i;

/**
 * Open an image's file.
 * @param {object} row of the report
 * @returns {Promise<{image: HTMLImageElement|null, reason: string|null}>} the decoded file, or
 *     why it cannot be used
 */
async function openOriginal(row) {
  const { record, orientation } = row;
  const url = pictureUrl(row.original);
  if (url === null) return unusable("The file was not found when this page was made.");
  const image = new Image();
  image.src = url;
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
