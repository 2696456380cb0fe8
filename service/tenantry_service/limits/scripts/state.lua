-- The state of one scope (a tenant, or one of its keys) and the law of limits: the same as buckets.py, in doubles.
-- Everything is an integer below 2^53 (see there), so that every sum here is exact, or so large that it is cut off.
-- Kept as one string of little-endian doubles. A later version only adds members at the end, and bytes that we do not
-- know are kept: two versions may be alive at the same time.
local VERSION, BORN, SEEDED, UPDATED, GENERATION, SEEN = 1, 2, 3, 4, 5, 6
local REQUESTS_LIMIT, TOKENS_LIMIT, SLOTS, BUDGET, DAILY, REFUSES = 7, 8, 9, 10, 11, 12
local REQUESTS, TOKENS, DAY, DAY_ENDS, DAY_SPENT, MONTH, MONTH_SPENT = 13, 14, 15, 16, 17, 18, 19
local MEMBERS = 19
local FORMAT = '<ddddddddddddddddddd'
local SCALE = 60000
local DEEPEST = -4503599627370496
local MOST_MONEY = 9007199254740991
-- A newer policy reaches all replicas within seconds. An older one that is alone for a minute is no straggler: the
-- tenant was made anew, and counts its generations from the beginning.
local STRAGGLERS_MS = 60000
-- Tokens taken where there was no limit to take them from.
local NOT_LIMITED = -1
local floor, min, max = math.floor, math.min, math.max

local function load_state(key)
  local raw = redis.call('GET', key)
  if not raw then
    return nil
  end
  local state = { struct.unpack(FORMAT, raw) }
  local next_byte = state[MEMBERS + 1]
  state[MEMBERS + 1] = #raw >= next_byte and string.sub(raw, next_byte) or nil
  return state
end

local function new_state(now)
  return { 1, now, 0, 0, 0, 0, 0, 0, 0, -1, 0, 1, 0, 0, 0, 0, 0, 0, 0 }
end

local function save_state(key, s)
  local raw = struct.pack(FORMAT, s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], s[11], s[12], s[13],
    s[14], s[15], s[16], s[17], s[18], s[19])
  redis.call('SET', key, s[MEMBERS + 1] and raw .. s[MEMBERS + 1] or raw)
end

-- Unix seconds of the first of the month that holds a day (days since 1970-01-01): Howard Hinnant's civil_from_days,
-- "chrono-Compatible Low-Level Date Algorithms"; the day of the month is all that is needed.
local function month_of(day_number)
  local z = day_number + 719468
  local doe = z - floor(z / 146097) * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local day_of_month = doy - floor((153 * mp + 2) / 5) + 1
  return (day_number - day_of_month + 1) * 86400
end

local function refilled(level, old_limit, limit, elapsed)
  level = min(old_limit * SCALE, level + old_limit * elapsed)
  if limit ~= old_limit then
    level = max(DEEPEST, level + (limit - old_limit) * SCALE)
  end
  return level
end

-- bounds: { key name, requests, tokens, slots, budget, daily, refuses } as the caller's policy has them.
local function advance(s, bounds, generation, now)
  local requests, tokens = s[REQUESTS_LIMIT], s[TOKENS_LIMIT]
  if generation >= s[GENERATION] or now - s[SEEN] > STRAGGLERS_MS then
    requests, tokens = bounds[2], bounds[3]
    s[SLOTS], s[BUDGET], s[DAILY], s[REFUSES] = bounds[4], bounds[5], bounds[6], bounds[7]
    s[GENERATION], s[SEEN] = generation, now
  end
  local elapsed = now - s[UPDATED]
  if elapsed > 0 or elapsed < -SCALE then
    s[UPDATED] = now
  end
  if elapsed < 0 then
    elapsed = 0
  end
  if requests > 0 or s[REQUESTS_LIMIT] > 0 then
    s[REQUESTS] = refilled(s[REQUESTS], s[REQUESTS_LIMIT], requests, elapsed)
    s[REQUESTS_LIMIT] = requests
  end
  if tokens > 0 or s[TOKENS_LIMIT] > 0 then
    s[TOKENS] = refilled(s[TOKENS], s[TOKENS_LIMIT], tokens, elapsed)
    s[TOKENS_LIMIT] = tokens
  end
  if now >= s[DAY_ENDS] then
    local day_number = floor(now / 86400000)
    s[DAY], s[DAY_ENDS], s[DAY_SPENT] = day_number * 86400, (day_number + 1) * 86400000, 0
    local month = month_of(day_number)
    if month > s[MONTH] then
      s[MONTH], s[MONTH_SPENT] = month, 0
    end
  end
end

-- Replace what was reserved by what was used; see buckets.settle.
local function correct(s, taken, reserved_money, day, month, tokens, money, exact)
  local extra = tokens - taken
  if s[TOKENS_LIMIT] > 0 and taken ~= NOT_LIMITED and (extra > 0 or exact) then
    s[TOKENS] = max(DEEPEST, min(s[TOKENS_LIMIT] * SCALE, s[TOKENS] - extra * SCALE))
  end
  local extra_money = money - reserved_money
  if day == s[DAY] then
    s[DAY_SPENT] = min(MOST_MONEY, s[DAY_SPENT] + extra_money)
  end
  if month == s[MONTH] then
    s[MONTH_SPENT] = min(MOST_MONEY, s[MONTH_SPENT] + extra_money)
  end
end

local function server_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + floor(time[2] / 1000)
end
