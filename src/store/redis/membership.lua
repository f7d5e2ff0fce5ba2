-- Registers the heartbeat of a sidecar; returns the number of sidecars, and the time in milliseconds by this server's
-- clock.
--
-- KEYS[1]  the last heartbeat of each sidecar, in milliseconds by this server's clock
-- ARGV[1]  the name of the sidecar
-- ARGV[2]  how long a sidecar counts after its last heartbeat, in milliseconds
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return { redis.call('ZCARD', KEYS[1]), now }
