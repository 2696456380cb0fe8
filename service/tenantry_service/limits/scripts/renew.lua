-- A process lives, and so do its requests.
-- KEYS: leases, processes, then leases of keys.
-- ARGV[1]: msgpack [lease, process, [index of KEYS, [id, ...]], ...].
-- Returns msgpack [now, processes alive, number of ids that are not there any more].
-- A lease that had run out but was not yet swept is taken up again: its request does run, so it is counted, and others
-- wait until there is room.
local call = cmsgpack.unpack(ARGV[1])
local now = server_ms()
local lease_ends, gone = now + call[1], 0
redis.call('ZADD', KEYS[2], lease_ends, call[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
for i = 3, #call do
  local leases = KEYS[call[i][1]]
  for _, id in ipairs(call[i][2]) do
    if redis.call('ZADD', leases, 'XX', 'CH', lease_ends, id) == 0 and not redis.call('ZSCORE', leases, id) then
      gone = gone + 1
    end
  end
end
return cmsgpack.pack({ now, redis.call('ZCARD', KEYS[2]), gone })
