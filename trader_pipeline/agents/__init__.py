"""Language models as trading agents: asked at every closed candle, filled at the next open, measured and compared.

Belongs here: agents over candles and over covered-call steps, what it takes to ask a model, and grids of experiments.
Does not belong here: training a model, or judging the policies of the backtest (`evaluation`). Importing this package
loads no library: `fractal`, `agents` and `openai` load with the modules that need them.

    params           the settings of one agent
    prompts          the instructions that an agent is given
    actions          the answer of an agent over candles
    observations     candles known so far, in SQLite       -> what the tool get_klines reads
    exchange         cash and coins, filled at the next open
    strategy         the agent as a strategy of fractal-defi -> decisions
    run              one agent over one stretch of candles -> result, decisions, faults, cost
    run_folder       a finished run as files
    metrics          how it did, beside holding the coins
    asking           a question and a reply               (address, openai_asker, faults, cache, ledger)
    endpoint         a local model behind the OpenAI protocol
    covered_calls    the agent as a policy of the backtest
    grid             many agents, compared on a validation window
"""
