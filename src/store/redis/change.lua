-- Changes the record of one caller, if it is still the one that the writer has read, and notifies every sidecar. The
-- records on which the change depends must be unchanged too: otherwise two changes, each valid by itself, could
-- together create cyclic parents, or a child of a deleted parent. Called by `write` in directory.rs; its `Record` is
-- the value of KEYS[1].
--
-- KEYS[1]  the caller's record; absent if there is none
-- KEYS[2]  the index: a sorted set of all names, each with the score 0
-- KEYS[3]  the number of changes, so that no revision is used twice, not even after a deletion
-- KEYS[4+] the records that the change depends on
-- ARGV[1]  the caller's name
-- ARGV[2]  the revision that the writer has read; 0: none
-- ARGV[3]  the caller as JSON; empty: it is deleted
-- ARGV[4]  the channel for the names of changed callers
-- ARGV[5+] the revisions that the writer has read of the records at KEYS[4+], in their order
--
-- Reply    the new revision; 0: nothing was done, because one of the records was changed

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
-- First the commands that may fail, because of an ACL or the type of a key: an error does not undo earlier commands. No
-- client can read the record before the script ends.
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
