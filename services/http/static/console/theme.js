// Before anything is painted: the reader's own choice goes before that of the system.
try {
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch { /* without storage, the system's */ }
