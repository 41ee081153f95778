// The dashboard's own components: HTML in one piece, and charts that are drawn once. See components.py.
(() => {
  "use strict";
  const { createElement, useLayoutEffect, useRef } = window.React;
  const CONFIG = { displayModeBar: false, responsive: false, scrollZoom: false, plotlyServerURL: "" };

  // New HTML takes a field away that had the keyboard: frame.js gives it back in the same step, so no key is lost.
  function Markup({ html }) {
    useLayoutEffect(() => { document.dispatchEvent(new CustomEvent("markup-shown")); }, [html]);
    return createElement("div", { className: "markup", dangerouslySetInnerHTML: { __html: html } });
  }

  const sizeOf = (node) => ({ width: node.clientWidth, height: node.clientHeight });

  // Draws what a chart is to show, where that is not drawn yet. A hidden chart is drawn once it is seen.
  function draw(node) {
    if (!window.Plotly || node.drawn === node.wanted || !node.clientWidth) return;
    const first = node.drawn === undefined;
    const { data, layout } = JSON.parse(node.wanted);
    node.drawn = node.wanted;
    node.size = sizeOf(node);
    // Plotly keeps the first span that was dragged: a double click must not go back to that one, but to all there is.
    const config = node.closest("[data-zooms]") ? { ...CONFIG, doubleClick: "autosize" } : CONFIG;
    window.Plotly.react(node, { data, layout: { ...layout, ...node.size }, config });
    if (!first) return;
    node.on("plotly_relayout", (detail) => {
      node.dispatchEvent(new CustomEvent("chart-zoomed", { bubbles: true, detail }));
    });
  }

  function fit(node) {
    const size = sizeOf(node);
    if (!node.isConnected || !size.width || node.drawn !== node.wanted) return;
    if (size.width === node.size.width && size.height === node.size.height) return;
    node.size = size;
    window.Plotly.relayout(node, size);
  }

  // A place has another size than before: the window changed, or what it was folded into opened.
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      draw(target);
      clearTimeout(target.fitting);
      target.fitting = setTimeout(() => fit(target), 100); // once, as a window is dragged
    }
  });

  // Plotly's script is fetched beside the document, but run after the first chart's page is seen: that takes a while.
  let begun = false;
  function begin() {
    if (begun) return;
    begun = true;
    const script = document.createElement("script");
    script.src = document.getElementById("plotly").href;
    script.addEventListener("load", () => document.querySelectorAll(".drawing").forEach(draw));
    requestAnimationFrame(() => setTimeout(() => document.head.append(script), 0));
  }

  // Charts whose place went away, by id. A page is laid out anew at every choice: a chart of the same id takes its
  // drawing over in the same step, and Plotly changes what is another. What nobody takes is given up right after.
  const left = new Map();

  function taken(id) {
    const node = left.get(id) || document.createElement("div");
    left.delete(id);
    node.className = node.className || "drawing";
    return node;
  }

  function leave(id, node) {
    left.set(id, node);
    setTimeout(() => {
      if (left.get(id) !== node) return;
      left.delete(id);
      sizes.unobserve(node);
      if (window.Plotly) window.Plotly.purge(node);
    }, 0);
  }

  function Chart({ id, figure, height, zooms }) {
    const place = useRef(null);
    useLayoutEffect(() => {
      const node = taken(id);
      node.wanted = JSON.stringify(figure);
      place.current.append(node);
      sizes.observe(node);
      begin();
      draw(node);
      return () => leave(id, node);
    }, [id, figure]);
    return createElement("div", { id, ref: place, style: { height }, "data-zooms": zooms || undefined });
  }

  window.trader_pipeline_dashboard = { Markup, Chart };
})();
