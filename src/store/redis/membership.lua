-- Notes that a sidecar lives; returns how many do, and the time in milliseconds by this server's clock.
--
-- KEYS[1]  when each of them was last heard of, in milliseconds by this server's clock
-- ARGV[1]  which one it is
-- ARGV[2]  for how many milliseconds one counts that is not heard of
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return { redis.call('ZCARD', KEYS[1]), now }
