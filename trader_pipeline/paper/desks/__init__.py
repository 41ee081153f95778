"""What a decision does to a position, candle by candle: long and short spot trades, and covered-call chains."""
