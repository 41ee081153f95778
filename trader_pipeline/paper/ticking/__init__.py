"""One closed candle after the other, once each: live, caught up, or a stretch of history at once; how books stand."""
