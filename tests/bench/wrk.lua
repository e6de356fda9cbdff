-- What wrk found, as one line of JSON: requests a second, and p99 of their latency in ms.
function done(summary, latency)
  local failed = summary.errors.connect + summary.errors.timeout + summary.errors.status
  io.write(string.format('\n{"rate": %f, "p99": %f, "failed": %d}\n',
    summary.requests / summary.duration * 1e6, latency:percentile(99) / 1e3, failed))
end
