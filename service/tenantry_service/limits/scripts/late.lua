-- What was used by a request whose reservation is not there: swept because its lease ran out, settled before (this is
-- a repetition), lost with the store's memory, or never made here (it was admitted by a replica's own share).
-- KEYS: state, usage, swept note, and the state of the key if that has limits.
-- ARGV[1]: msgpack [first, occurred, tokens, money, exact, taken, taken of the key, reserved money, day, month, event].
-- Returns 1 if it corrects a swept one, 2 if it was charged, 0 if only its event was written.
local call = cmsgpack.unpack(ARGV[1])
local first, occurred, tokens, money, exact = call[1], call[2], call[3], call[4], call[5]
local note = redis.call('GET', KEYS[3])
if not note and not first then
  redis.call('XADD', KEYS[2], '*', 'e', call[11])
  return 0
end
local scopes = { KEYS[1], KEYS[4] }
for i, state_key in ipairs(scopes) do
  local s = load_state(state_key)
  if s and note then
    correct(s, call[5 + i], call[8], call[9], call[10], tokens, money, exact)
    save_state(state_key, s)
  elseif s and occurred >= s[BORN] then
    -- What happened before this state was born is added from the ledger (seed.lua).
    if s[TOKENS_LIMIT] > 0 then
      s[TOKENS] = max(DEEPEST, s[TOKENS] - tokens * SCALE)
    end
    if occurred >= s[DAY] * 1000 then
      s[DAY_SPENT] = min(MOST_MONEY, s[DAY_SPENT] + money)
    end
    if occurred >= s[MONTH] * 1000 then
      s[MONTH_SPENT] = min(MOST_MONEY, s[MONTH_SPENT] + money)
    end
    save_state(state_key, s)
  end
end
if note then
  redis.call('XADD', KEYS[2], '*', 'e', call[11], 'k', 'late', 'o', note)
  redis.call('DEL', KEYS[3])
  return 1
end
redis.call('XADD', KEYS[2], '*', 'e', call[11])
return 2
