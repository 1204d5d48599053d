// Which way is up, as a file says: EXIF 3.0, tag 274, in JPEG and PNG. Browsers turn pictures by it
// and do not say so; records count stored pixels.

const LOOKED_AT = 1 << 18; // bytes from the start of a file, among which EXIF stands
const AS_STORED = 1;
const ORIENTATION = 0x0112;
const SHORT = 3;
const LITTLE_ENDIAN = 0x4949;
const EXIF = 0x45786966; // "Exif"
const PNG = 0x89504e47;
const PNG_EXIF = 0x65584966; // "eXIf"
const JPEG = 0xffd8;
const APP1 = 0xe1;
const JPEG_SCAN = 0xda;

/**
 * Read a file's orientation.
 * @param {Blob} file
 * @returns {Promise<{orientation: number, turned: boolean}>} 1 to 8, and whether every browser turns
 *     such a file
 * @throws {DOMException} the file cannot be read
 */
async function orientationOf(file) {
  const start = new DataView(await file.slice(0, LOOKED_AT).arrayBuffer());
  try {
    const turned = start.getUint16(0) === JPEG;
    const exif = turned ? exifOfJpeg(start) : exifOfPng(start);
    return { orientation: exif === null ? AS_STORED : orientationIn(exif), turned };
  } catch (error) {
    if (error instanceof RangeError) return { orientation: AS_STORED, turned: false }; // damaged
    throw error;
  }
}

function exifOfJpeg(view) {
  let at = 2;
  for (;;) {
    const marker = view.getUint8(at + 1);
    if (view.getUint8(at) !== 0xff || marker === JPEG_SCAN) return null;
    const length = view.getUint16(at + 2);
    if (marker === APP1 && view.getUint32(at + 4) === EXIF) {
      return new DataView(view.buffer, at + 10, length - 8);
    }
    at += 2 + length;
  }
}

function exifOfPng(view) {
  if (view.getUint32(0) !== PNG) return null;
  let at = 8;
  for (;;) {
    const length = view.getUint32(at);
    if (view.getUint32(at + 4) === PNG_EXIF) return new DataView(view.buffer, at + 8, length);
    at += 12 + length;
  }
}

function orientationIn(exif) {
  const little = exif.getUint16(0) === LITTLE_ENDIAN;
  const directory = exif.getUint32(4, little);
  const entries = exif.getUint16(directory, little);
  for (let index = 0; index < entries; index += 1) {
    const entry = directory + 2 + 12 * index;
    if (exif.getUint16(entry, little) !== ORIENTATION) continue;
    const value = exif.getUint16(entry + 8, little);
    const known = exif.getUint16(entry + 2, little) === SHORT && value >= 1 && value <= 8;
    return known ? value : AS_STORED;
  }
  return AS_STORED;
}
