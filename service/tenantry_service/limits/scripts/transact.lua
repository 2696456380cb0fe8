-- Reserves and settlements of one tenant, in the order given: each all or nothing, all in one step.
-- KEYS: state, leases, reservations, usage; then state and leases of each key that has limits of its own.
-- ARGV[1]: msgpack [deadline, lease, generation, scopes, ops]; scopes: bounds of the tenant, then of those keys (false:
-- they have none any more); ops: [1, id, scope or 0, tokens, money, note] or
-- [2, id, scope or 0, tokens, money, exact, taken, taken of the key, reserved money, day, month, event].
-- Returns msgpack [now, result of each op]. A reserve: [1, day, month, request limit, its level, token limit, its level,
-- money of the day, of the month, and limits and levels of the key]; [0, state, slots in use, and both of the key]; or
-- [2]: too late, its caller has given it up. A settlement: 1, or 0 if there is no such reservation (nothing was done).
local call = cmsgpack.unpack(ARGV[1])
local deadline, lease, generation, scopes, ops = call[1], call[2], call[3], call[4], call[5]
local now = deadline > 0 and server_ms() or 0
local states, advanced, changed = {}, {}, {}

local function state_of(scope)
  local s = states[scope]
  if not s then
    s = load_state(KEYS[scope == 1 and 1 or 2 * scope + 1])
    states[scope] = s
  end
  return s
end

local function present(scope)
  local s = state_of(scope)
  if not advanced[scope] then
    if not s then
      s = new_state(now)
      states[scope] = s
    end
    advance(s, scopes[scope], generation, now)
    advanced[scope], changed[scope] = true, true
  end
  return s
end

local function fits(s, leases, tokens, money)
  if s[REQUESTS_LIMIT] > 0 and s[REQUESTS] < SCALE then
    return false
  end
  if s[TOKENS_LIMIT] > 0 and s[TOKENS] < tokens * SCALE then
    return false
  end
  if s[BUDGET] >= 0 and s[REFUSES] == 1 then
    local spent = s[DAILY] == 1 and s[DAY_SPENT] or s[MONTH_SPENT]
    if spent + money > s[BUDGET] then
      return false
    end
  end
  -- Leases that have run out are no slots, but still there until the sweeper has settled them.
  return s[SLOTS] == 0 or redis.call('ZCARD', leases) < s[SLOTS]
    or redis.call('ZCOUNT', leases, '(' .. now, '+inf') < s[SLOTS]
end

local function take(s, tokens, money)
  if s[REQUESTS_LIMIT] > 0 then
    s[REQUESTS] = s[REQUESTS] - SCALE
  end
  if s[TOKENS_LIMIT] > 0 then
    s[TOKENS] = s[TOKENS] - tokens * SCALE
  end
  s[DAY_SPENT] = min(MOST_MONEY, s[DAY_SPENT] + money)
  s[MONTH_SPENT] = min(MOST_MONEY, s[MONTH_SPENT] + money)
end

local function reserve(op)
  if now > deadline then
    return { 2 }
  end
  local id, scope, tokens, money = op[2], op[3], op[4], op[5]
  local tenant = present(1)
  local key = scope > 0 and present(scope) or nil
  local key_leases = key and KEYS[2 * scope + 2]
  if not fits(tenant, KEYS[2], tokens, money) or (key and not fits(key, key_leases, tokens, money)) then
    -- Copies: the next of these ops may change them.
    local refused = { 0, { unpack(tenant, 1, MEMBERS) }, redis.call('ZCOUNT', KEYS[2], '(' .. now, '+inf') }
    if key then
      refused[4], refused[5] = { unpack(key, 1, MEMBERS) }, redis.call('ZCOUNT', key_leases, '(' .. now, '+inf')
    end
    return refused
  end
  take(tenant, tokens, money)
  local taken = tenant[TOKENS_LIMIT] > 0 and tokens or NOT_LIMITED
  local granted = { 1, tenant[DAY], tenant[MONTH], tenant[REQUESTS_LIMIT], tenant[REQUESTS], tenant[TOKENS_LIMIT],
    tenant[TOKENS], tenant[DAY_SPENT], tenant[MONTH_SPENT] }
  local record = { 1, '', tokens, money, taken, NOT_LIMITED, tenant[DAY], tenant[MONTH], op[6] }
  if key then
    take(key, tokens, money)
    granted[10], granted[11] = key[REQUESTS_LIMIT], key[REQUESTS]
    granted[12], granted[13] = key[TOKENS_LIMIT], key[TOKENS]
    record[2], record[6] = scopes[scope][1], key[TOKENS_LIMIT] > 0 and tokens or NOT_LIMITED
    redis.call('ZADD', key_leases, now + lease, id)
  end
  redis.call('HSET', KEYS[3], id, cmsgpack.pack(record))
  redis.call('ZADD', KEYS[2], now + lease, id)
  return granted
end

local function settle(op)
  local id, scope = op[2], op[3]
  if redis.call('HDEL', KEYS[3], id) == 0 then
    return 0
  end
  redis.call('ZREM', KEYS[2], id)
  local s = state_of(1)
  if s then
    correct(s, op[7], op[9], op[10], op[11], op[4], op[5], op[6])
    changed[1] = true
  end
  if scope > 0 then
    redis.call('ZREM', KEYS[2 * scope + 2], id)
    s = state_of(scope)
    if s then
      correct(s, op[8], op[9], op[10], op[11], op[4], op[5], op[6])
      changed[scope] = true
    end
  end
  if op[12] ~= '' then
    redis.call('XADD', KEYS[4], '*', 'e', op[12])
  end
  return 1
end

local results = { now }
for i, op in ipairs(ops) do
  results[i + 1] = op[1] == 1 and reserve(op) or settle(op)
end
for scope in pairs(changed) do
  save_state(KEYS[scope == 1 and 1 or 2 * scope + 1], states[scope])
end
return cmsgpack.pack(results)
