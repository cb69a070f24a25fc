-- For wrk: posts files in turn, and prints its figures as one line that a program can read.
--
--   wrk … -s tests/perf/post.lua URL -- CONTENT-TYPE [NAME:VALUE…] FILE…
--
-- A NAME:VALUE is one more header of each request.
-- Times are in microseconds. wrk corrects its latencies for the requests that a stalled connection could not send.

local requests, number = {}, 0

function init(args)
   local headers = { ["Content-Type"] = args[1] }
   local first = 2
   while first <= #args and args[first]:match("^[%w-]+:") do
      local name, value = args[first]:match("^([%w-]+):(.*)$")
      headers[name] = value
      first = first + 1
   end
   for i = first, #args do
      local file = assert(io.open(args[i], "rb"))
      requests[#requests + 1] = wrk.format("POST", nil, headers, file:read("*a"))
      file:close()
   end
end

function request()
   number = number % #requests + 1
   return requests[number]
end

function done(summary, latency, _)
   local errors = summary.errors
   io.write(string.format(
      "figures requests=%d duration_us=%d mean_us=%.1f p50_us=%.1f p99_us=%.1f max_us=%.1f "
         .. "status=%d connect=%d read=%d write=%d timeout=%d\n",
      summary.requests, summary.duration, latency.mean, latency:percentile(50), latency:percentile(99), latency.max,
      errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
