// What the frame does in the browser: choices go into the URL, the theme is kept, a new page is announced.
(() => {
  "use strict";

  // Changes query parameters of the present URL; null drops one. The server lays the page out for the new address.
  function go(changes) {
    const url = new URL(window.location.href);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === "") url.searchParams.delete(name);
      else url.searchParams.set(name, value);
    }
    if (url.href === window.location.href) return;
    window.history.pushState({}, "", url);
    window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
  }

  document.addEventListener("change", (event) => {
    const field = event.target.closest("[data-param]");
    if (!field) return;
    const changes = {};
    for (const name of (field.dataset.resets || "").split(" ").filter(Boolean)) changes[name] = null;
    changes[field.dataset.param] = event.target.value.trim();
    go(changes);
  });

  document.addEventListener("click", (event) => {
    if (!event.target.closest("#theme-switch")) return;
    const root = document.documentElement;
    const dark = root.dataset.theme || (window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    root.dataset.theme = dark === "dark" ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch (error) { /* the choice lasts for this page */ }
  });

  let shown = null;
  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    frame: {
      // A page has been laid out: its title, and for another page than before the keyboard's place.
      arrived(title, path) {
        if (!title) return;
        document.title = title;
        if (shown !== null && shown !== path) {
          document.getElementById("content").focus({ preventScroll: true });
          window.scrollTo(0, 0);
        }
        shown = path;
      },
      // A chart was zoomed along its time: the span goes into the URL as `from` and `to`, and the server answers
      // with finer bars. A double click goes back to all of it.
      zoomed(relayout) {
        if (!relayout) return;
        const minute = (text) => String(text).slice(0, 16).replace(" ", "T");
        if (relayout["xaxis.autorange"]) go({ from: null, to: null });
        else if (relayout["xaxis.range[0]"]) {
          go({ from: minute(relayout["xaxis.range[0]"]), to: minute(relayout["xaxis.range[1]"]) });
        }
      },
    },
  });
})();
