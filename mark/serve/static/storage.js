// Browser storage that may be full, blocked or holding something else: then values live as long as the page.

/** One key of a storage, with JSON values. */
export class Kept {
  #storage;
  #key;
  #value = null;

  /**
   * @param {() => Storage} storage Called late: a browser may refuse to hand it out.
   * @param {string} key
   */
  constructor(storage, key) {
    this.#key = key;
    try {
      this.#storage = storage();
      this.#value = JSON.parse(this.#storage.getItem(key) ?? "null");
    } catch {
      this.#value = null;
    }
  }

  get value() {
    return this.#value;
  }

  /** Keep a value; null removes it. Returns whether the storage took it. */
  set(value) {
    this.#value = value;
    try {
      if (value === null) this.#storage.removeItem(this.#key);
      else this.#storage.setItem(this.#key, JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  }
}
