// A classic script in the head, so that a chosen theme is there before the first paint.
try {
  const chosen = localStorage.getItem("mark.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // A browser that keeps nothing follows the system's theme.
}
