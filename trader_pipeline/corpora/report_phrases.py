"""The wordings of the report style: five or more of each part. Text alone; the figures are made in `report_style`.

The wordings of a part hold the same figures, so that which one is drawn says nothing. None holds a word about what came
later, and none judges.
"""

from __future__ import annotations

OPENING = (
    "{underlying} desk note, {time} UTC. Spot is {spot} USD.",
    "{underlying} at {spot} USD, {time} UTC.",
    "As of {time} UTC, {underlying} trades at {spot} USD.",
    "{time} UTC: {underlying} changes hands at {spot} USD.",
    "Snapshot of {underlying}, {time} UTC: spot {spot} USD.",
    "Note on {underlying}, written {time} UTC with spot at {spot} USD.",
)
TREND = (
    "The trend {trend}: {underlying} is {up_30d} over 30 days {but} {up_7d} over 7, and {up_1d} since yesterday. It is"
    " {ma_30d} its 30-day average and {ma_7d} its 7-day one.",
    "{underlying} is {up_7d} on the week {but} {up_30d} on the month, {up_1d} since yesterday. The trend {trend}, with"
    " spot {ma_30d} the 30-day mean, {ma_7d} the 7-day mean.",
    "Over 30 days the coin is {up_30d}, over 7 {up_7d}, over the last day {up_1d}. With spot {ma_30d} its 30-day"
    " average and {ma_7d} its 7-day one, the trend {trend}.",
    "Spot is {ma_7d} its weekly average and {ma_30d} its monthly one; the trend {trend}. {underlying} is {up_1d} on the"
    " day, {up_7d} on the week {but} {up_30d} on the month.",
    "The month has {underlying} {up_30d}, the week {up_7d}, the day {up_1d}. With price {ma_30d} the 30-day average and"
    " {ma_7d} the 7-day one, the trend {trend}.",
)
LEVEL = (
    "It is {below_high}, in the {third} third of that range.",
    "Spot sits {below_high} and in the {third} third of its range.",
    "In its 30-day range it trades in the {third} third, {below_high}.",
    "Price is in the {third} third of its 30-day range, {below_high}.",
    "That is the {third} third of its range, {below_high}.",
)
VOLATILITY = (
    "Realised volatility {state}: {rv_7d}% over the week against {rv_30d}% over the month, {rv_1d}% on the last day. An"
    " average day spans {atr}%.",
    "The month realised {rv_30d}% volatility, the week {rv_7d}%, the last day {rv_1d}%; it {state}. The average daily"
    " range is {atr}%.",
    "Volatility {state}, with {rv_30d}% realised over 30 days, {rv_7d}% over 7 and {rv_1d}% over one. Days span {atr}%"
    " on average.",
    "Realised volatility is {rv_30d}% for 30 days and {rv_7d}% for 7, so it {state}; the last day ran at {rv_1d}%. A"
    " usual day covers {atr}%.",
    "Weekly volatility of {rv_7d}% compares with {rv_30d}% for the month and {rv_1d}% for the day: it {state}. The mean"
    " daily range is {atr}%.",
)
PATH = (
    "Daily moves, latest first: {moves}; {rises} of {bars} rose.",
    "The last {bars} days went {moves}, latest first: {rises} up.",
    "Path of the last {bars} days, newest first: {moves}, {rises} of them up.",
    "Counting back day by day it moved {moves}: up on {rises} of {bars}.",
    "24-hour moves, newest first: {moves}. It rose on {rises} of {bars} days.",
)
PATH_OF_ONE = (
    "The move of the last 24 hours: {moves}.",
    "Over the last 24 hours it moved {moves}.",
    "The latest daily move is {moves}.",
    "Recent path: {moves} in 24 hours.",
    "The last day went {moves}.",
)
TERM_STRUCTURE = (
    "Thirty-day implied volatility is {slope} seven-day.",
    "Implied volatility for a month is {slope} that for a week.",
    "On the curve, monthly implied volatility is {slope} weekly.",
    "Monthly implied volatility stands {slope} weekly.",
    "Monthly implied volatility is quoted {slope} weekly.",
)
PAYS = (
    "It runs {dte} and pays {yield}% of the coin, at {iv}% implied volatility, {ratio} times the 30-day realised.",
    "Selling it brings in {yield}% of the coin for {dte}; implied volatility is {iv}%, {ratio} times realised.",
    "The bid is worth {yield}% of the coin for {dte}, priced at {iv}% implied volatility ({ratio} times realised).",
    "Premium: {yield}% of the coin, for {dte}. Implied volatility of {iv}% is {ratio} times realised.",
    "For {dte} it yields {yield}% of the coin. That prices volatility at {iv}%, {ratio} times realised.",
)
RISKS = (
    "Gains above {strike}, {away}, are given up; delta {delta}. At expiry, before fees, the sale is ahead of plain"
    " holding up to {break_even}.",
    "What is sold is the upside above {strike}, {away}; delta {delta}. Past {break_even} at expiry, before"
    " fees, plain holding is ahead.",
    "The strike of {strike} lies {away}, delta {delta}. The risk is an expiry beyond {break_even}, before fees, where"
    " the cap costs more than the premium.",
    "Upside is capped at {strike}, {away}, with a delta of {delta}. At expiry, before fees, it breaks even"
    " with holding at {break_even}.",
    "The risk is a rally: the cap is {strike}, {away}, delta {delta}; at expiry, before fees, the sale breaks"
    " even with holding at {break_even}.",
)
CHAIN = (
    "On offer: {calls} with {dtes} to run, deltas {deltas}. Premiums are {yields} of the coin, at implied volatility"
    " {ratios} times realised. What is sold is the upside above the strike.",
    "The chain has {calls}, {dtes} out and {deltas} in delta. Sellers get {yields} of the coin, {ratios} times realised"
    " volatility, and give up gains above the strike.",
    "For sale: {calls}, running {dtes}, delta {deltas}. They pay {yields} of the coin and price volatility at {ratios}"
    " times realised; a rally through the strike is the risk.",
    "Choice of {calls}: {dtes} to expiry, deltas of {deltas}, premiums of {yields} of the coin. Implied volatility is"
    " {ratios} times realised. Upside is capped at the strike sold.",
    "Listed here: {calls}. They run {dtes} with deltas of {deltas} and yield {yields} of the coin, {ratios} times"
    " realised volatility in the price; past the strike, gains go to the buyer.",
)
