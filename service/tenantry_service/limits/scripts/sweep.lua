-- Settle reservations whose lease ran out: billed as reserved. Buckets keep what was taken, and budgets too.
-- KEYS: leases, reservations, usage; then for each: where its note is kept, and its key's leases (or leases again).
-- ARGV[1]: msgpack [before, keep, [id, note], ...]. Returns how many were settled; those that somebody renewed, settled
-- or swept meanwhile are left alone.
local call = cmsgpack.unpack(ARGV[1])
local swept = 0
for i = 3, #call do
  local id, note = call[i][1], call[i][2]
  local lease_ends = redis.call('ZSCORE', KEYS[1], id)
  if lease_ends and tonumber(lease_ends) <= call[1] and redis.call('HDEL', KEYS[2], id) == 1 then
    local at = 2 * (i - 3) + 4
    redis.call('ZREM', KEYS[1], id)
    redis.call('ZREM', KEYS[at + 1], id)
    redis.call('XADD', KEYS[3], '*', 'e', note, 'k', 'swept')
    redis.call('SET', KEYS[at], note, 'PX', call[2])
    swept = swept + 1
  end
end
return swept
