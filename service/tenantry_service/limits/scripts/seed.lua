-- The store has lost its memory, and the ledger says what was spent before: once per state.
-- KEYS: state. ARGV[1]: msgpack [born, day, money of the day, month, money of the month]. Returns 1 if it was added.
local call = cmsgpack.unpack(ARGV[1])
local s = load_state(KEYS[1])
if not s or s[BORN] ~= call[1] or s[SEEDED] == 1 then
  return 0
end
if s[DAY] == call[2] then
  s[DAY_SPENT] = min(MOST_MONEY, s[DAY_SPENT] + call[3])
end
if s[MONTH] == call[4] then
  s[MONTH_SPENT] = min(MOST_MONEY, s[MONTH_SPENT] + call[5])
end
s[SEEDED] = 1
save_state(KEYS[1], s)
return 1
