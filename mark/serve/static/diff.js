// The words of two texts that differ, as runs: [{ text, changed }] for the old and for the new one.

const MAX_CELLS = 4_000_000; // beyond that the texts are shown as wholly changed

/** Compare two texts by words; what both share in order is unchanged. */
export function wordDiff(before, after) {
  const old = words(before);
  const fresh = words(after);
  let start = 0;
  while (start < old.length && start < fresh.length && old[start] === fresh[start]) start += 1;
  let end = 0;
  const most = Math.min(old.length, fresh.length) - start;
  while (end < most && old[old.length - 1 - end] === fresh[fresh.length - 1 - end]) end += 1;
  const middleOld = old.slice(start, old.length - end);
  const middleFresh = fresh.slice(start, fresh.length - end);
  const [keptOld, keptFresh] = common(middleOld, middleFresh);
  const flags = (all, kept) => all.map((_, i) => i >= start && i < all.length - end && !kept.has(i - start));
  return { before: runs(old, flags(old, keptOld)), after: runs(fresh, flags(fresh, keptFresh)) };
}

function words(text) {
  return text.match(/\s+|[\p{L}\p{N}]+|[^\s\p{L}\p{N}]/gu) ?? [];
}

// Which words of each side belong to the longest common subsequence.
function common(old, fresh) {
  const kept = [new Set(), new Set()];
  const width = fresh.length + 1;
  if (old.length * width > MAX_CELLS) return kept;
  const longest = new Uint16Array((old.length + 1) * width);
  for (let i = old.length - 1; i >= 0; i -= 1) {
    for (let j = fresh.length - 1; j >= 0; j -= 1) {
      longest[i * width + j] =
        old[i] === fresh[j]
          ? longest[(i + 1) * width + j + 1] + 1
          : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  for (let i = 0, j = 0; i < old.length && j < fresh.length;) {
    if (old[i] === fresh[j]) {
      kept[0].add(i);
      kept[1].add(j);
      i += 1;
      j += 1;
    } else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) i += 1;
    else j += 1;
  }
  return kept;
}

function runs(all, changed) {
  const found = [];
  all.forEach((text, i) => {
    const last = found.at(-1);
    if (last && last.changed === changed[i]) last.text += text;
    else found.push({ text, changed: changed[i] });
  });
  return found;
}
