"""The proxy benchmark: one core for each gateway, the same upstream and the same load, side by side in one run.

The gateway under test runs on one core; the upstreams (nginx for plain answers, `sse_upstream` for streams) and the
load (`wrk`, `stream_load`) share another. Rounds are interleaved, so that a machine whose speed drifts is unfair to
nobody, and every ratio is taken within a round before the median is.
"""
