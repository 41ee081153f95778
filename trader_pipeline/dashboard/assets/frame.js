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
    url.hash = "";
    show(url.href);
  }

  // Where the reader is: the page's height is held until the next one is there, so that nothing jumps meanwhile.
  let held = null;
  function show(address) {
    if (address === window.location.href) return settle();
    const before = { path: window.location.pathname, y: window.scrollY, height: content().offsetHeight };
    const same = withoutHash(address) === withoutHash(window.location.href);
    window.history.replaceState({ ...window.history.state, left: before }, ""); // for the way back
    window.history.pushState({}, "", address);
    if (same) return settle(); // another place of this page: nothing is laid out
    hold(before);
    window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
  }

  function hold(place) {
    held = place;
    content().style.minHeight = `${place.height}px`;
  }

  // Back or forward to what a link or a choice left: it is shown where the reader left it.
  window.addEventListener("popstate", (event) => {
    const place = event.state && event.state.left;
    if (place && laid !== withoutHash(window.location.href)) hold(place);
    else held = null;
  });

  const withoutHash = (address) => address.split("#")[0];
  const content = () => document.getElementById("content");

  document.addEventListener("change", (event) => {
    const field = event.target.closest("[data-param]");
    if (!field) return;
    const changes = {};
    for (const name of (field.dataset.resets || "").split(" ").filter(Boolean)) changes[name] = null;
    changes[field.dataset.param] = event.target.value.trim();
    go(changes);
  });

  // A link: the page is laid out for its address, without loading the document again. It is taken before Dash's own
  // links take it, for they go to the top of the page.
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element && event.target.closest("header a, #content a");
    const plain = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
    if (!link || !plain || link.origin !== window.location.origin || link.target || link.download) return;
    event.preventDefault();
    event.stopPropagation();
    show(link.href);
  }, true);

  document.addEventListener("click", (event) => {
    if (!event.target.closest("#theme-switch")) return;
    const root = document.documentElement;
    const dark = root.dataset.theme || (window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    root.dataset.theme = dark === "dark" ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch (error) { /* the choice lasts for this page */ }
  });

  // A chart was zoomed along its time: the span goes into the URL as `from` and `to`, and the server answers with
  // finer bars. A double click goes back to all of it.
  document.addEventListener("chart-zoomed", (event) => {
    if (!event.target.closest("[data-zooms]")) return;
    const minute = (text) => String(text).slice(0, 16).replace(" ", "T");
    if (event.detail["xaxis.autorange"]) go({ from: null, to: null });
    else if (event.detail["xaxis.range[0]"]) {
      go({ from: minute(event.detail["xaxis.range[0]"]), to: minute(event.detail["xaxis.range[1]"]) });
    }
  });

  // The keyboard's place, by what stays as the page is laid out anew: a field's name, or which link of which table.
  const LISTS = ".paging, .scroll";
  let last = null;
  document.addEventListener("focusin", (event) => { last = placeOf(event.target); });
  document.addEventListener("mousedown", (event) => {
    if (!event.target.closest("a, button, input, select, label, summary, [tabindex]")) last = null;
  }, true);

  function placeOf(node) {
    const list = node.closest(LISTS);
    if (node.name) return { name: node.name };
    if (!list || !node.matches("a")) return null;
    return { list: [...document.querySelectorAll(LISTS)].indexOf(list), words: plainWords(node) };
  }

  document.addEventListener("markup-shown", () => {
    const again = lost() && last && last.name && found(last);
    if (!again) return;
    again.focus({ preventScroll: true });
    // An answer to the choice before may come right after the next one: the next key counts from what was chosen last.
    const asked = new URLSearchParams(window.location.search).get(last.name);
    if (again.options && [...again.options].some((option) => option.value === asked)) again.value = asked;
  });

  const lost = () => !document.activeElement || document.activeElement === document.body;
  const plainWords = (node) => node.textContent.replace(/ [▲▼]$/, "");

  function found(place) {
    if (place.name) return content().querySelector(`[name="${CSS.escape(place.name)}"]`);
    const list = document.querySelectorAll(LISTS)[place.list];
    const links = list ? [...list.querySelectorAll("a")] : [];
    return links.find((link) => plainWords(link) === place.words) || (list && list.matches(".paging") && links[0]);
  }

  function decoded(text) {
    try { return decodeURIComponent(text); } catch (error) { return text; } // a lone %
  }

  // The page is there: at the section that its address names, else where the reader was; another page from its top.
  function settle(tries = 30) {
    const { hash, href } = window.location;
    const target = hash && document.getElementById(decoded(hash.slice(1)));
    if (hash && !target && tries) {  // in a part that comes later
      setTimeout(() => { if (window.location.href === href) settle(tries - 1); }, 100);
      return;
    }
    const stayed = held && held.path === window.location.pathname;
    if (target) {
      target.tabIndex = -1;
      target.focus({ preventScroll: true });
      target.scrollIntoView({ behavior: "instant" });
    } else if (stayed) {
      window.scrollTo({ top: held.y, behavior: "instant" });
      const again = lost() && last && found(last);
      if (again) again.focus({ preventScroll: true });
    }
    held = null;
    setTimeout(() => { if (!held) content().style.minHeight = ""; }, 500); // parts that come later
  }

  let shown = null; // the path of the page, and all of its address but the place on it
  let laid = null;
  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    frame: {
      // A page has been laid out: its title, and for another page than before the keyboard's place.
      arrived(title, path) {
        if (!title) return;
        document.title = title;
        if (shown !== null && shown !== path) {
          const back = held && held.path === path;
          if (!back) content().style.minHeight = "";
          content().focus({ preventScroll: true });
          window.scrollTo({ top: back ? held.y : 0, behavior: "instant" });
        }
        shown = path;
        laid = withoutHash(window.location.href);
        const here = document.querySelector("header li.here"), bar = here && here.closest("nav");
        if (bar) bar.scrollLeft = here.offsetLeft - bar.offsetLeft - 40; // on a phone the bar is wider than it
        requestAnimationFrame(() => settle());
      },
    },
  });
})();
