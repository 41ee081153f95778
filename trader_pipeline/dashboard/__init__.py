"""The dashboard: a page per question, drawn from the tables of one data folder, served on loopback.

Belongs here: what is shown and how. Nothing here writes a table.
Does not belong here: figures that a stage does not know yet. They are computed in that stage.

    app         `create_app`: the server with its pages
    page        `Page`, `Context`, the state of a page (its URL's query) and links that change it
    routing     from a URL to a page; a page that fails says what to do
    parts       headings, tables, figures, choices, notes: the only markup that pages use
    tables      rows of the store's tables by SQL, read straight from the Parquet files
    theme       colours and the template of all figures; its style sheet and script are in assets
    figures     figures that several pages draw: candles, lines over time
    *_views     what a page shows, as frames and figures: version_views for the lineage, and so on
    pages       a module a page
"""
