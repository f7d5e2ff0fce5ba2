-- Changes what is known of one caller, if it still is what the writer saw, and tells every sidecar. The records that the
-- change depends on must be as the writer saw them too: else two changes, each right by itself, could make a circle of
-- parents together, or a child of a parent that is gone.
-- Called by `write` in directory.rs, whose `Record` is what stands under KEYS[1].
--
-- KEYS[1]  the caller's record; absent if there is none
-- KEYS[2]  the index: a sorted set of all names, each with the score 0
-- KEYS[3]  how many changes there were, so that no revision comes twice, not even after a deletion
-- KEYS[4+] the records that the change depends on
-- ARGV[1]  the caller's name
-- ARGV[2]  the revision that the writer saw; 0: none
-- ARGV[3]  the caller as JSON; empty: it goes
-- ARGV[4]  the channel that tells the names of changed callers
-- ARGV[5+] the revisions that the writer saw of the records at KEYS[4+], in their order
--
-- Reply    the new revision; 0: nothing was done, one of the records is another one by now

local function is_as_seen(key, seen)
  local found = redis.call('GET', key)
  local revision = found and string.match(found, '^{"version":1,"revision":(%d+),') or '0'
  return revision == seen
end

if not is_as_seen(KEYS[1], ARGV[2]) then
  return 0
end
for index = 4, #KEYS do
  if not is_as_seen(KEYS[index], ARGV[index + 1]) then
    return 0
  end
end
local new = redis.call('INCR', KEYS[3])
-- First what may be refused, by an ACL or because a key is of another type: what was done before an error stays
-- done. Nobody can ask for the record before the script ends.
redis.call('PUBLISH', ARGV[4], ARGV[1])
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('DEL', KEYS[1])
else
  local head = string.format('{"version":1,"revision":%.0f,"caller":', new)
  redis.call('ZADD', KEYS[2], 0, ARGV[1])
  redis.call('SET', KEYS[1], head .. ARGV[3] .. '}')
end
return new
