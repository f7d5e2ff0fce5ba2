-- Replaces the book of alerts if it is still the version that was changed. Mirrors `RedisAlertBook::exchange`.
-- KEYS: 1 the hash with the version and the text of the book, 2 the list of closed alerts, newest first.
-- ARGV: 1 the version that was read; 2 the new text, empty to only read; 3 milliseconds until both expire; 4 the maximum
-- number of closed alerts that are kept; 5 and following: alerts that the change has closed.
-- Returns the version before, the server's time in milliseconds, and the text if the version is not the one that was read.
-- The new text was written if it is.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local version = redis.call('HGET', KEYS[1], 'v')
if not version or #version > 15 or string.find(version, '%D') or version == '' then
  version = '0'
end
if version ~= ARGV[1] then
  return { version, now, redis.call('HGET', KEYS[1], 's') or '' }
end
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], 'v', version + 1, 's', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  for i = 5, #ARGV do
    -- A change whose answer was lost is made again.
    redis.call('LREM', KEYS[2], 1, ARGV[i])
    redis.call('LPUSH', KEYS[2], ARGV[i])
  end
  if 5 <= #ARGV then
    redis.call('LTRIM', KEYS[2], 0, ARGV[4] - 1)
    redis.call('PEXPIRE', KEYS[2], ARGV[3])
  end
end
return { version, now }
