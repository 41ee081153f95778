"""What happened in a trade and what would have been better, in sentences.

Belongs here: wording alone. Each figure is one of `trade_path` or `alternatives`, rounded by `figures`; a word that
grades a figure is chosen by the figure as it is written, so that the two never disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from trader_pipeline.paper.verdicts.alternatives import Alternative, any_better, best_alternative
from trader_pipeline.paper.verdicts.figures import duration, fixed, price, rounded, signed_pct
from trader_pipeline.paper.verdicts.trade_path import (
    CallFigures,
    EntryTiming,
    Excursion,
    SpotFigures,
    TradePath,
)

_RANGE_PARTS = (
    (20, "near its low"),
    (40, "in its lower part"),
    (60, "in its middle"),
    (80, "in its upper part"),
)
_TREND = (Decimal("0.80"), Decimal("1.20"))
_RICHNESS = (Decimal("0.90"), Decimal("1.10"))
_HODL = "against holding the coins"
_NO_EXCURSION = "The record does not say how far the trade stood ahead."


def analysis(path: TradePath, *, edges: Sequence[Decimal] = ()) -> str:
    """What happened. `edges` are the thresholds of the verdicts (%): the result is never rounded across one."""
    sentences = [
        _outcome(path, edges),
        *_call_sentences(path, edges),
        _timing(path.timing, is_call=path.call is not None),
        _excursions(path),
        _efficiency(path),
        _volatility(path),
        _missing(path),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def improvement(path: TradePath, *, edges: Sequence[Decimal] = ()) -> str:
    """The best single change, with what it would have made and what was made; of a loss also what abstaining saved."""
    better = best_alternative(path)
    if better is None:
        if path.best is None and path.high is None:
            return f"{_abstaining(path)} would not have been better. {_missing(path) or _NO_EXCURSION}"
        by = " by 0.01 % or more" if any_better(path) else ""
        return f"Nothing that the record shows would have been better{by}.{_left_on_the_table(path)}"
    made = signed_pct(better.pnl_pct)
    against = f" {_HODL}" if path.call else ""
    return (
        f"{_change(better, path)} would have been better: {made} instead of"
        f" {signed_pct(path.pnl_pct, edges)}{against}{_condition(better)}.{_abstaining_too(better, path)}"
    )


def _left_on_the_table(path: TradePath) -> str:
    """What buying the last call back cost, of the coins' value at the entry."""
    call = path.call
    if call is None or call.exit_cost is None or call.spot_pct is None or path.exit_reason != "take_profit":
        return ""
    cost_pct = call.exit_cost * (100 + call.spot_pct)
    return f" Buying back cost {fixed(cost_pct, 2)} % of the coins' value, the most that holding on could have saved."


def _change(better: Alternative, path: TradePath) -> str:
    ahead, behind = ("lowest", "high") if path.direction == "SHORT" else ("highest", "low")
    at = f" of {price(better.price)}" if better.price is not None else ""
    when = _when(better.days, ", ", ",")
    match better.change:
        case "no_trade":
            return _abstaining(path)
        case "best_exit":
            return f"Leaving at the {ahead} price{at}{when}"
        case "later_entry":
            return f"Entering later, at the trade's {behind}{at}{when or ','}"
        case "earlier_entry":
            return f"Entering earlier, at the {behind} of the 24 hours before{at.replace(' of', ',')},"
        case "buy_back":
            return f"Ending the trade at its best mark{when}"
        case "strike":
            return f"{_strike(better, path)},"


def _abstaining(path: TradePath) -> str:
    return "Not selling the call" if path.direction == "SHORT_CALL" else "Not trading"


def _abstaining_too(better: Alternative, path: TradePath) -> str:
    """Beside a better change that needed hindsight, the one that a losing trade never needed it for."""
    if better.change == "no_trade" or path.pnl_pct >= 0:
        return ""
    return f" {_abstaining(path)} would have been better as well: 0.00 %."


def _strike(better: Alternative, path: TradePath) -> str:
    assert path.call is not None
    assert path.call.strike is not None
    assert path.call.exit_spot is not None
    assert better.price is not None
    which = "farther" if better.price > path.call.strike else "nearer"
    where = "where spot ended" if better.price == path.call.exit_spot else "where spot stood at the entry"
    return f"A {which} strike of about {price(better.price)}, {where}"


def _condition(better: Alternative) -> str:
    match better.change:
        case "buy_back":
            return ", before the cost of leaving"
        case "strike":
            return ", priced at the same implied volatility"
        case "no_trade":
            return ""
        case _:
            return ", at the same costs"


def _outcome(path: TradePath, edges: Sequence[Decimal]) -> str:
    if path.call is not None:
        return _call_outcome(path, path.call)
    held = f" after {duration(path.days)}" if path.days is not None else ""
    result = signed_pct(path.pnl_pct, edges)
    if path.spot is None:
        return f"The result is {result}{held}."
    return f"{_fills(path, path.spot, held)} The result is {result}."


def _fills(path: TradePath, spot: SpotFigures, held: str) -> str:
    opened, closed = ("Bought", "sold") if path.direction == "LONG" else ("Sold short", "bought back")
    start = f"{opened} at {price(spot.entry)} and {closed}"
    if spot.exit is None or spot.move_pct is None:
        return f"{start}{held}{_fees(spot)}."
    return f"{start} at {price(spot.exit)}{held}: {signed_pct(spot.move_pct)} by the prices{_fees(spot)}."


def _fees(spot: SpotFigures) -> str:
    """Fees as a share of the entry's value, and of what the prices gained."""
    if spot.fee_pct is None:
        return ""
    if not spot.fee_pct:
        return "; no fee is recorded"
    text = f"; fees took {fixed(spot.fee_pct, 2)} % of the entry's value"
    if spot.move_pct is None or rounded(spot.move_pct, 2) <= 0:
        return text
    return f"{text}, {fixed(100 * spot.fee_pct / spot.move_pct, 0)} % of that gain"


def _call_outcome(path: TradePath, call: CallFigures) -> str:
    legs = f" in {call.legs} legs" if call.legs and call.legs > 1 else ""
    held = f" {_ending(path)} after {duration(path.days)}" if path.days is not None else f" {_ending(path)}"
    return f"A call sold for {price(call.premium)} coin per coin was{held}{legs}{_spot_move(call)}."


def _ending(path: TradePath) -> str:
    endings = {
        "expired": "settled at expiry",
        "take_profit": "bought back to take profit",
        "no_delivery_price": "settled at the last price known, for want of a delivery price,",
    }
    return endings.get(path.exit_reason or "", "left")


def _spot_move(call: CallFigures) -> str:
    if call.spot_pct is None:
        return ""
    moved = f"; spot moved {signed_pct(call.spot_pct)}"
    if call.spot_atr is None or call.strike_atr is None:
        return moved
    return f"{moved}, {_signed(call.spot_atr)} average true ranges (the strike stood {_signed(call.strike_atr)} away)"


def _signed(value: Decimal) -> str:
    short = rounded(value, 1)
    return f"{short:+,f}" if short else "0.0"


def _call_sentences(path: TradePath, edges: Sequence[Decimal]) -> list[str]:
    if path.call is None:
        return []
    return [_returns(path, edges), _premium(path.call), _spot_high(path, path.call), _drawdown(path.call)]


def _returns(path: TradePath, edges: Sequence[Decimal]) -> str:
    own = path.covered_return_pct
    result = f"{_HODL.capitalize()} it made {signed_pct(path.pnl_pct, edges)}"
    return (
        f"{result}; the covered position itself {signed_pct(own, edges)}."
        if own is not None
        else f"{result}."
    )


def _premium(call: CallFigures) -> str:
    parts = []
    if call.kept_pct is not None:
        share = rounded(call.kept_pct, 0)
        parts.append(f"{fixed(abs(share), 0)} % of the first premium was {'kept' if share >= 0 else 'lost'}")
    if call.fee_pct is not None:
        parts.append(
            f"fees took {fixed(call.fee_pct, 0)} % of it"
            if parts
            else f"fees took {fixed(call.fee_pct, 0)} % of the first premium"
        )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _spot_high(path: TradePath, call: CallFigures) -> str:
    """Spot's high against the strike, of a single call: a rolled chain has other strikes later."""
    if path.high is None or path.high.price is None or call.strike is None or call.legs != 1:
        return ""
    room = rounded(100 * (path.high.price / call.strike - 1), 1)
    if not room:
        where = "touched the strike"
    else:
        where = f"{'passed' if room > 0 else 'stayed below'} the strike by {fixed(abs(room), 1)} %"
    return f"Spot's high of {price(path.high.price)}{_when(path.high.days, ', ', ',')} {where}."


def _drawdown(call: CallFigures) -> str:
    if call.drawdown_pct is None or call.drawdown_pct < 0:
        return ""
    return f"The covered position fell by at most {fixed(call.drawdown_pct, 2)} % from a peak."


def _timing(timing: EntryTiming | None, *, is_call: bool) -> str:
    if timing is None:
        return ""
    subject = "Spot at the entry" if is_call else "The entry"
    span = f"the range of the 24 hours before ({price(timing.low)} to {price(timing.high)})"
    if timing.position_pct is None:
        return f"{subject} followed 24 hours in which the price stood still at {price(timing.low)}."
    position = rounded(timing.position_pct, 0)
    if position < 0:
        return f"{subject} lay below {span}."
    if position > 100:
        return f"{subject} lay above {span}."
    part = next((words for limit, words in _RANGE_PARTS if position < limit), "near its high")
    return f"{subject} stood at {fixed(position, 0)} % of {span}, {part}."


def _excursions(path: TradePath) -> str:
    if path.best is None or path.worst is None:
        return ""
    return f"At best it {_stood(path.best, 'ahead')}; at worst it {_stood(path.worst, 'behind')}."


def _stood(excursion: Excursion, side: str) -> str:
    if not rounded(excursion.pct, 2):
        return f"was not {side}" if not excursion.pct else f"was hardly {side}"
    return f"stood {signed_pct(excursion.pct)}{_when(excursion.days, ' ')}"


def _when(days: Decimal | None, before: str, after: str = "") -> str:
    if days is None:
        return ""
    return f"{before}{'in the first candle' if not days else f'{duration(days)} in'}{after}"


def _efficiency(path: TradePath) -> str:
    """How much of the best excursion the exit kept; said where there was one."""
    kept = path.kept_of_best_pct
    if kept is None or path.best is None or not rounded(path.best.pct, 2):
        return ""
    if path.pnl_pct <= 0:
        return "The exit kept nothing of the best."
    share = rounded(kept, 0)
    if share > 100:
        return (
            "The exit kept more than the best: it was filled beyond the last candle held."
            if path.spot
            else ""
        )
    return f"The exit kept {fixed(share, 0) if share else 'less than 1'} % of the best."


def _volatility(path: TradePath) -> str:
    state = path.volatility
    sentences = []
    if state.ratio is not None and state.days_7 and state.days_30:
        sentences.append(
            f"Volatility was {_grade(state.ratio, _TREND, ('falling', 'steady', 'rising'))} at the decision:"
            f" {fixed(state.days_7, 2)} over 7 days, {fixed(state.ratio, 2)} times that of 30 days."
        )
    if state.iv and state.ivrv_ratio:
        sentences.append(
            f"Implied volatility of {fixed(state.iv, 2)} was {fixed(state.ivrv_ratio, 2)} times the realised one:"
            f" {_grade(state.ivrv_ratio, _RICHNESS, ('cheap', 'fair', 'rich'))}."
        )
    return " ".join(sentences)


def _grade(value: Decimal, limits: tuple[Decimal, Decimal], words: tuple[str, str, str]) -> str:
    """The word for a figure as it is written with two decimals; a limit belongs to the outer word."""
    shown = rounded(value, 2)
    return words[0] if shown <= limits[0] else words[2] if shown >= limits[1] else words[1]


def _missing(path: TradePath) -> str:
    if path.contradiction:
        return f"The record contradicts itself ({path.contradiction}): nothing was read from its path."
    return "" if path.has_path else "The record holds no path."
