-- Changes how far a gift has come, if it still stands as the writer saw it, and gives its hits to a caller in the same step,
-- if that caller still is what the writer saw.
-- Called by `write` in gifts.rs.
--
-- KEYS[1]  the gift
-- KEYS[2]  the gifts that are pending: a sorted set of ids, each with the time from which on it is to be resumed
-- KEYS[3]  the record of the caller that gets the hits
-- KEYS[4]  the index of callers, as in change.lua
-- KEYS[5]  how many changes of callers there were
-- KEYS[6+] lists of what callers are told of gifts, the youngest first
-- ARGV[1]  the gift's id
-- ARGV[2]  the gift as the writer saw it; empty: there was none
-- ARGV[3]  the gift from now on
-- ARGV[4]  for how long to keep it, in milliseconds; empty: for ever
-- ARGV[5]  when it is to be resumed; empty: it is no longer pending
-- ARGV[6]  the name of the caller that gets the hits; empty: nobody does
-- ARGV[7]  the revision of that caller that the writer saw
-- ARGV[8]  the caller as JSON
-- ARGV[9]  the channel that tells the names of changed callers
-- ARGV[10] how many lines a list keeps
-- ARGV[11] for how long, in milliseconds
-- ARGV[12+] the lines for the lists at KEYS[6+], in their order
--
-- Reply    1; 0: nothing was done, the gift or the caller is another one by now

if (redis.call('GET', KEYS[1]) or '') ~= ARGV[2] then
  return 0
end
if ARGV[6] ~= '' then
  local found = redis.call('GET', KEYS[3])
  local revision = found and string.match(found, '^{"version":1,"revision":(%d+),') or '0'
  if revision ~= ARGV[7] then
    return 0
  end
  local new = redis.call('INCR', KEYS[5])
  -- First what may be refused, as in change.lua.
  redis.call('PUBLISH', ARGV[9], ARGV[6])
  local head = string.format('{"version":1,"revision":%.0f,"caller":', new)
  redis.call('ZADD', KEYS[4], 0, ARGV[6])
  redis.call('SET', KEYS[3], head .. ARGV[8] .. '}')
end
if ARGV[5] == '' then
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('ZADD', KEYS[2], ARGV[5], ARGV[1])
end
if ARGV[4] == '' then
  redis.call('SET', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
for index = 6, #KEYS do
  redis.call('LPUSH', KEYS[index], ARGV[index + 6])
  redis.call('LTRIM', KEYS[index], 0, ARGV[10] - 1)
  redis.call('PEXPIRE', KEYS[index], ARGV[11])
end
return 1
