// The page is whole without this. With it the numbers of the overview stay fresh.
"use strict";
(() => {
  const live = document.getElementById("live");
  if (!live || !window.EventSource) return;
  const at = (value, path) => path.split(".").reduce((v, name) => (v == null ? v : v[name]), value);
  const source = new EventSource(live.dataset.events);
  const away = document.getElementById("away");
  source.onerror = () => { away.hidden = false; };
  source.addEventListener("away", source.onerror);
  source.onmessage = (event) => {
    away.hidden = true;
    const news = JSON.parse(event.data);
    for (const node of document.querySelectorAll("[data-live]")) {
      const value = at(news, node.dataset.live);
      if (value == null) continue;
      node.textContent = "round" in node.dataset ? Math.round(value) : value;
    }
  };
  addEventListener("pagehide", () => source.close());
})();
