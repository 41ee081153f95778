"""A backtest as one self-contained HTML page: figures, the book against HODL, trades on candles, regimes, settings.

Belongs here: showing what a result holds. Does not belong here: computing figures (`summary`, `regimes`).

    markup, style       HTML and CSS
    plots, trades_plot  charts as plotly figures
    sections            what each section shows and says
    write               the page's order, and the file
"""

from trader_pipeline.backtest.page.write import write_page

__all__ = ["write_page"]
