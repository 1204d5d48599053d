// Places in a picture: from stored pixels, in which records count, to the upright picture.

/** The size of the upright picture of `width` x `height` stored pixels. */
function uprightSize(width, height, orientation) {
  return orientation >= 5 ? { width: height, height: width } : { width, height };
}

/**
 * Turn a rectangle of stored pixels as EXIF's orientation turns the picture.
 * @param {{left: number, top: number, width: number, height: number}} place in stored pixels
 * @param {number} width of the stored picture
 * @param {number} height of the stored picture
 * @param {number} orientation 1 to 8
 * @returns {{left: number, top: number, width: number, height: number}} in upright pixels
 */
function uprightPlace(place, width, height, orientation) {
  const { left, top } = place;
  const right = width - left - place.width;
  const bottom = height - top - place.height;
  const corners = [
    [left, top],
    [right, top],
    [right, bottom],
    [left, bottom],
    [top, left],
    [bottom, left],
    [bottom, right],
    [top, right],
  ];
  const [x, y] = corners[orientation - 1];
  return { left: x, top: y, ...uprightSize(place.width, place.height, orientation) };
}
