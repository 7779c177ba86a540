-- wrk with the cookie of another session for each request. The bench writes the requests as a Lua table into a file.
local requests = {}
local index = 0

function init(args)
  requests = dofile(args[1])
end

function request()
  index = index % #requests + 1
  return requests[index]
end

-- One line for the bench, after wrk's own report.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('\nRESULT {"requests":%d,"seconds":%f,"p50Ms":%f,"p99Ms":%f,"failed":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
