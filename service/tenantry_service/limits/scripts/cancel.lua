-- Give back what a reserve took whose answer never came: nobody was served.
-- KEYS: state, leases, reservations, and the state and the leases of the key if that has limits. ARGV[1]: its id.
-- Returns 1, or 0 if there is no such reservation.
local raw = redis.call('HGET', KEYS[3], ARGV[1])
if not raw then
  return 0
end
local record = cmsgpack.unpack(raw)
redis.call('HDEL', KEYS[3], ARGV[1])
for i, at in ipairs({ 1, 4 }) do
  local s = KEYS[at] and load_state(KEYS[at])
  if s then
    correct(s, record[4 + i], record[4], record[7], record[8], 0, 0, true)
    s[REQUESTS] = min(s[REQUESTS_LIMIT] * SCALE, s[REQUESTS] + (s[REQUESTS_LIMIT] > 0 and SCALE or 0))
    save_state(KEYS[at], s)
    redis.call('ZREM', KEYS[at + 1], ARGV[1])
  end
end
return 1
