"""The report of a run: one self-contained HTML page over the store's tables.

Belongs here: showing what tables hold. Does not belong here: computing what none of them holds.

    source               the tables, any of which may be missing
    findings             what the figures say of the adapter, in sentences
    plots, candles_plot  charts as plotly figures
    page, report.css     markup and style
    adapter_sections     what was found, books, loss
    forgetting_section   what the model forgot
    data_sections        candles and trades, labels, the teacher's P&L, regimes, lineage, settings
    write                the page's order, and the file
"""

from trader_pipeline.evaluation.report.write import write_report

__all__ = ["write_report"]
