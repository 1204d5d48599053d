// Which addresses of pictures a page follows.

const EMBEDDED = /^data:image\/webp;base64,[A-Za-z0-9+/]+={0,2}$/;
const NETWORK_PATH = /^\/(?:[/\\]|%2f|%5c)/i; // Windows takes //host/share for another host's file

/**
 * Return a picture's URL if it is embedded WebP, a file, or lies beside the page; else null.
 *
 * A file on another host is refused: opening it would tell that host who looks.
 */
function pictureUrl(url) {
  if (url === null || EMBEDDED.test(url)) return url;
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
