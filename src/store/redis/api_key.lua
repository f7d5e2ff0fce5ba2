-- Changes the record of one API key, if it is still the one that the writer has read, and notifies every sidecar. Called by
-- `write` in api_keys.rs; its `ApiKeyRecord` is the value of KEYS[1].
--
-- KEYS[1]  the record; absent if there is none
-- KEYS[2]  the index: a sorted set of all ids, each with the score 0
-- KEYS[3]  the index of the caller's ids
-- KEYS[4]  the number of changes, which callers share, so that no revision is used twice
-- KEYS[5]  the last uses by id
-- KEYS[6+] first the records by the hashes that the writer has read, then those by the hashes from now on
-- ARGV[1]  the id
-- ARGV[2]  the revision that the writer has read; 0: none
-- ARGV[3]  the record as JSON; empty: it is deleted
-- ARGV[4]  the channel for changes
-- ARGV[5]  the number of hashes that the writer has read
-- ARGV[6+] the messages for the hashes at KEYS[6+], in their order
--
-- Reply    the new revision; 0: nothing was done, because the record was changed

local found = redis.call('GET', KEYS[1])
local revision = found and string.match(found, '^{"version":1,"revision":(%d+),') or '0'
if revision ~= ARGV[2] then
  return 0
end
local new = redis.call('INCR', KEYS[4])
-- First the commands that may fail, as in change.lua.
for index = 6, #ARGV do
  redis.call('PUBLISH', ARGV[4], ARGV[index])
end
local first_new = 6 + ARGV[5]
for index = 6, first_new - 1 do
  redis.call('DEL', KEYS[index])
end
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('HDEL', KEYS[5], ARGV[1])
  redis.call('DEL', KEYS[1])
else
  local record = string.format('{"version":1,"revision":%.0f,"api_key":', new) .. ARGV[3] .. '}'
  redis.call('ZADD', KEYS[2], 0, ARGV[1])
  redis.call('ZADD', KEYS[3], 0, ARGV[1])
  redis.call('SET', KEYS[1], record)
  for index = first_new, #KEYS do
    redis.call('SET', KEYS[index], record)
  end
end
return new
