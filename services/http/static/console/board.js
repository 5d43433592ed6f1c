// A task that is dragged to another person's card is given to that person.
"use strict";

(() => {
  let dragged = null;
  const over = (event) => event.target.closest?.("[data-drop]");
  const clear = () => document.querySelectorAll(".over").forEach((card) => card.classList.remove("over"));

  document.addEventListener("dragstart", (event) => {
    dragged = event.target.closest?.("[data-task]") ?? null;
    if (!dragged) return;
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", dragged.dataset.task);
  });
  document.addEventListener("dragend", () => { dragged = null; clear(); });
  document.addEventListener("dragover", (event) => {
    const card = over(event);
    clear();
    if (!dragged || !card || card.dataset.drop === dragged.dataset.from) return;
    event.preventDefault();
    card.classList.add("over");
  });
  document.addEventListener("drop", (event) => {
    const card = over(event);
    if (!dragged || !card) return;
    event.preventDefault();
    const { task, from } = dragged.dataset;
    window.htmx.ajax("POST", "/console/board", {
      source: dragged, target: "#said", values: { task, from, to: card.dataset.drop },
    });
  });
})();
