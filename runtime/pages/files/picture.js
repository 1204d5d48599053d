// Which picture stands for an image: its file if that is still the same, else the thumbnail.

/**
 * What a page says of images' files, each a sentence without its full stop.
 * @typedef {object} FileWords
 * @property {string} shown where the file is shown
 * @property {string} missing where there is none
 * @property {string} unreadable where it cannot be opened
 * @property {string} other where its size in pixels is not the record's
 */

const TURNED_BY_BROWSERS = /\.jpe?g$/i;

/**
 * Open an image's file.
 * @param {object} row of the page
 * @param {FileWords} words
 * @param {AbortSignal} signal upon which the file is dropped, even if it was shown
 * @returns {Promise<{image: HTMLImageElement|null, reason: string|null}>} the decoded file, or
 *     why it cannot be used
 */
async function openOriginal(row, words, signal) {
  const { record, orientation } = row;
  const image = new Image();
  signal.addEventListener("abort", () => image.removeAttribute("src"));
  image.src = pictureUrl(row.original);
  try {
    await image.decode();
  } catch {
    return unusable(`${words.unreadable}.`);
  }
  const expected = uprightSize(record.width, record.height, orientation);
  const { naturalWidth: width, naturalHeight: height } = image;
  if (width !== expected.width || height !== expected.height) {
    const sizes = `${width} × ${height}, not ${expected.width} × ${expected.height}`;
    return unusable(`${words.other}: it is ${sizes}.`);
  }
  if (!isUpright(row)) return unusable("This browser may not turn such a file upright.");
  return { image, reason: null };
}

function unusable(reason) {
  return { image: null, reason };
}

/**
 * Browsers turn JPEG files, by their paths if the row does not say what is `turned`; of others the
 * size may tell, if turning changes it.
 */
function isUpright({ record, orientation, turned = TURNED_BY_BROWSERS.test(record.path || "") }) {
  if (orientation === 1 || turned) return true;
  return orientation >= 5 && record.width !== record.height;
}
