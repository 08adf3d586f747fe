-- The requests of one run of wrk: `wrk … -s load.lua URL -- FILE MODE SEED`.
--
-- FILE holds one bearer token a line; none is a request without credentials.
-- MODE is `rotate` (the tokens one after the other) or `forge` (eight characters of the first token's signature are
-- replaced by a counter that starts at SEED, so that no token is ever sent twice), and behind a comma the tool to call.

local function message(tool)
  return '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"' .. tool
    .. '","arguments":{"text":"hello"}}}'
end

local function post(token, body)
  local headers = {
    ["Content-Type"] = "application/json",
    ["Accept"] = "application/json, text/event-stream",
    ["MCP-Protocol-Version"] = "2025-11-25",
  }
  if token then headers["Authorization"] = "Bearer " .. token end
  return wrk.format("POST", "/mcp", headers, body)
end

function init(args)
  local tokens = {}
  for line in io.lines(args[1]) do tokens[#tokens + 1] = line end
  local mode, tool = args[2]:match("(%a+),(%a+)")
  local body = message(tool)
  if mode == "forge" then
    local whole = post(tokens[1], body)
    local from = whole:find(tokens[1], 1, true) + #tokens[1] - 200
    local before, after, count = whole:sub(1, from - 1), whole:sub(from + 8), tonumber(args[3])
    request = function()
      count = count + 1
      return before .. string.format("%08x", count) .. after
    end
  elseif #tokens > 1 then
    local requests, at = {}, 0
    for i, token in ipairs(tokens) do requests[i] = post(token, body) end
    request = function()
      at = at % #requests + 1
      return requests[at]
    end
  else
    wrk.method, wrk.path, wrk.body = "POST", "/mcp", body
    wrk.headers["Content-Type"] = "application/json"
    wrk.headers["Accept"] = "application/json, text/event-stream"
    wrk.headers["MCP-Protocol-Version"] = "2025-11-25"
    if tokens[1] then wrk.headers["Authorization"] = "Bearer " .. tokens[1] end
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
