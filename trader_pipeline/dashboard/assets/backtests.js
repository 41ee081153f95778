// “Run the backtest” counts however the page is laid out anew meanwhile: a value that was just typed is taken over by
// the press itself, and the press is kept in a store that stands beside the page (pages/backtests.py).
(() => {
  "use strict";
  const RUN = "#backtest-run";
  const buttonAt = (event) => (event.target instanceof Element ? event.target.closest(RUN) : null);
  let held = null;

  // The field keeps the keyboard: leaving it would lay the page out while the mouse is still down.
  document.addEventListener("mousedown", (event) => {
    held = buttonAt(event);
    if (held) event.preventDefault();
  }, true);

  // A choice made right before may have replaced the button under the mouse: then the browser sees no click.
  document.addEventListener("mouseup", (event) => {
    const button = buttonAt(event);
    if (held && button && button !== held) button.click();
    held = null;
  }, true);

  document.addEventListener("click", (event) => {
    if (!buttonAt(event)) return;
    const field = document.activeElement && document.activeElement.closest("[data-param]");
    if (field) document.activeElement.blur();
    window.dash_clientside.set_props("backtest-press", { data: { search: window.location.search, at: Date.now() } });
  }, true);
})();
