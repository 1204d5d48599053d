// Which addresses of pictures a page follows.

const madeHere = new Set();

/** Return an address of a file that the user gave to this page, until `forget` is called. */
function addressOfFile(file) {
  const url = URL.createObjectURL(file);
  madeHere.add(url);
  return url;
}

/** Let go of a file that has an address. */
function forget(url) {
  madeHere.delete(url);
  URL.revokeObjectURL(url);
}

const EMBEDDED = /^data:image\/webp;base64,[A-Za-z0-9+/]+={0,2}$/;
const NETWORK_PATH = /^\/(?:[/\\]|%2f|%5c)/i; // Windows takes //host/share for another host's file

/**
 * Return a picture's URL if it is embedded WebP, a file, made here, or lies beside the page; else
 * null.
 *
 * A file on another host is refused: opening it would tell that host who looks.
 */
function pictureUrl(url) {
  if (url === null || EMBEDDED.test(url) || madeHere.has(url)) return url;
  let found;
  try {
    found = new URL(url, document.baseURI);
  } catch {
    return null;
  }
  const page = new URL(document.baseURI);
  if (found.protocol === "file:" && NETWORK_PATH.test(found.pathname)) return null;
  const isFile = found.protocol === "file:" && ["", page.host].includes(found.host);
  const isBeside = found.protocol === page.protocol && found.host === page.host;
  return isFile || isBeside ? found.href : null;
}
