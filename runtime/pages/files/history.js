// The browser's history.

/** Change it, if the browser allows that: not for some files, nor when it is asked too often. */
function inHistory(change) {
  try {
    change();
    return true;
  } catch {
    return false;
  }
}
