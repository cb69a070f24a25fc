-- For wrk: posts the same 64 bytes again and again, and prints its figures as one line that a program can read.
-- Times are in microseconds. wrk corrects its latencies for the requests that a stalled connection could not send.

wrk.method = "POST"
wrk.body = string.rep("headrace", 8)
wrk.headers["Content-Type"] = "application/octet-stream"

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      "figures requests=%d duration_us=%d mean_us=%.1f p50_us=%.1f p99_us=%.1f max_us=%.1f "
         .. "status=%d connect=%d read=%d write=%d timeout=%d\n",
      summary.requests, summary.duration, latency.mean, latency:percentile(50), latency:percentile(99), latency.max,
      errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
